"""Inputs of the boundary fuzzer, and the oracle that judges them.

An input is a number, the seed of everything: arrays in one arena (strided, transposed, misaligned,
overlapping, of other types, no arrays at all), hyperparameters, options. The oracle uses NumPy and
`thalweg.reference` only, and decides whether the call must succeed. If so, the result has the
reference's bits and every other byte of the arena is unchanged. If not, the call raises `TypeError`
or `ValueError` (`NonFiniteError` for nonfinite gradients) and no byte has changed.
"""

from __future__ import annotations

import contextlib
import copy
import math
import pickle
import sys
import warnings
from collections import UserDict
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

import thalweg
from thalweg import functional, reference
from thalweg.groups.group import values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ARENA = 4096
LIMITS = {np.dtype("f4"): 2.0**64, np.dtype("f8"): 2.0**512}
EPS_MIN = {np.dtype("f4"): 1e-15, np.dtype("f8"): 1e-120}
STATES = {
    "adam": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    "sgd": ("momentum_buffer",),
    "sgdw": ("momentum_buffer",),
}
OPTIONAL = ("max_exp_avg_sq", "momentum_buffer")
REFUSALS = (TypeError, ValueError)


class FoundError(AssertionError):
    """A fault that the fuzzer has found."""


def expect(condition: object, what: str) -> None:
    if not condition:
        raise FoundError(what)


class Draw(Random):
    """Random source of an input."""

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def shape(self) -> tuple[int, ...]:
        return tuple(
            self.choice((0, 1, 1, 2, 3, 5, 17)) for _ in range(self.choice((0, 1, 1, 2, 3)))
        )

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.choice(("f4", "f8")))

    def values(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Mostly ordinary numbers; sometimes the ends of the type, infinity and NaN."""
        rng = np.random.default_rng(self.getrandbits(32))
        values = rng.standard_normal(shape)
        if self.chance(0.2):
            ends = [0.0, -0.0, 1e-45, 1e-40, 1e-30, 1e18, 2e19, 3e38, 5e-324, 1e160, 1e308]
            if self.chance(0.3):
                ends += [math.inf, -math.inf, math.nan]
            values = np.where(rng.random(shape) < 0.3, rng.choice(ends, shape), values)
        with np.errstate(all="ignore"):
            return np.asarray(values).astype(dtype)

    def number(self, *usual: Any) -> Any:
        """A hyperparameter: a usual value, an end of a range, or an invalid value."""
        if self.chance(0.96):
            return self.choice(usual)
        ends = (0.0, 5e-324, 1e-15, 1e-120, 0.5, 1.0, 1.5, 1e38, 1e39, 1e300, 1.8e308, -5e-324, -1)
        never = (math.nan, math.inf, -math.inf, 10**400, True, None, "1", 1j, [1.0], np.ones(2))
        return self.choice(ends if self.chance(0.6) else never)


@dataclass
class Arena:
    """Memory that arrays are cut from."""

    draw: Draw
    memory: np.ndarray = field(init=False)
    used: int = 0

    def __post_init__(self) -> None:
        self.memory = np.frombuffer(bytearray(self.draw.randbytes(ARENA)), np.uint8)

    def array(self, values: np.ndarray, *, apart: bool = True, aligned: bool = True) -> np.ndarray:
        """An array of these values in a random layout; unless `apart`, it may overlap others."""
        draw, size = self.draw, values.dtype.itemsize
        axes = list(range(values.ndim))
        draw.shuffle(axes)
        strides, reach, low = [0] * values.ndim, size, 0
        for axis in axes:
            stride = reach * draw.choice((1, 1, 1, 2)) + size * draw.choice((0, 0, 0, 1))
            strides[axis] = stride * draw.choice((1, 1, 1, -1))
            span = stride * max(values.shape[axis] - 1, 0)
            low += span if strides[axis] < 0 else 0
            reach += span
        start = self.used if apart else draw.randrange(max(self.used, 1))
        start += -start % size + size * draw.choice((0, 0, 1))
        start += 0 if aligned else draw.randrange(1, size)
        if start + reach > ARENA:
            return values.copy()
        if apart:
            self.used = start + reach
        array = np.ndarray(values.shape, values.dtype, self.memory, start + low, strides)
        array[...] = values
        return array


def read_only(array: np.ndarray) -> np.ndarray:
    other = array.copy()
    other.setflags(write=False)
    return other


def folded(draw: Draw, array: np.ndarray) -> np.ndarray:
    """A view whose elements may share memory."""
    strides = [draw.choice((0, 1, 1, 2, 3, 7)) for _ in array.shape]
    reach = sum(stride * max(n - 1, 0) for n, stride in zip(array.shape, strides, strict=True))
    memory = np.resize(array, reach + 1)
    return as_strided(memory, array.shape, [stride * array.itemsize for stride in strides])


OTHER_TYPES = ("f2", "g", "i4", "?", "c8", ">f4", ">f8", "O", "f8", "f4")
ODD: tuple[Callable[[Draw, Arena, np.ndarray], Any], ...] = (
    *[lambda draw, _, array: array.astype(draw.choice(OTHER_TYPES))] * 5,
    lambda draw, _, array: draw.choice((None, 1.0, "w", array.tolist(), memoryview(array))),
    lambda draw, arena, array: arena.array(draw.values(draw.shape(), array.dtype)),
    lambda draw, _, array: folded(draw, array),
    lambda _, arena, array: arena.array(array, aligned=False),
    lambda _, __, array: np.broadcast_to(np.zeros((), array.dtype), array.shape),
    lambda _, __, array: read_only(array),
    lambda _, __, array: np.ma.array(array),
    lambda _, __, array: array[()] if array.ndim == 0 else array.T,
    lambda _, __, array: array.view(np.recarray),
    lambda _, __, array: np.asmatrix(array.ravel()),
)


def odd(draw: Draw, arena: Arena, array: np.ndarray) -> Any:
    """A replacement for an array, mostly invalid."""
    return draw.choice(ODD)(draw, arena, array)


def good(array: Any, *, types: str = "fd") -> bool:
    """Whether an object is a float32 or float64 ndarray, native and not masked."""
    return (
        isinstance(array, np.ndarray)
        and not isinstance(array, np.ma.MaskedArray)
        and array.dtype.char in types
        and array.dtype.isnative
    )


def readable(array: Any) -> bool:
    """Whether an object may be a gradient; NumPy scalars count as 0-d arrays."""
    return good(array, types="efd") or type(array) in (np.float16, np.float32, np.float64)


def overlaps_itself(array: np.ndarray) -> bool:
    offsets = np.zeros(1, np.int64)
    for length, stride in zip(array.shape, array.strides, strict=True):
        offsets = (offsets[:, None] + np.arange(length) * stride).ravel()
    return bool((np.diff(np.sort(offsets)) < array.itemsize).any())


def writable(array: Any) -> bool:
    return (
        good(array) and array.flags.writeable and array.flags.aligned and not overlaps_itself(array)
    )


def in_range(value: Any, low: float, high: float = math.inf, *, closed: bool = False) -> bool:
    """Whether a value is a number in the range of a hyperparameter."""
    if isinstance(value, bool | np.bool_ | str | complex | list | np.ndarray) or value is None:
        return False
    if not low <= value <= sys.float_info.max:
        return False
    return bool(value <= high if closed else value < high)


@dataclass
class Update:
    """A call of `thalweg.functional`."""

    rule: str
    roles: dict[str, list[Any]]
    """Arguments by name, each with one value per parameter."""
    single: bool
    step: Any
    numbers: dict[str, Any]
    options: dict[str, Any]

    @classmethod
    def drawn(cls, draw: Draw, arena: Arena) -> Update:
        rule = draw.choice(tuple(STATES))
        states = STATES[rule]
        if rule.startswith("adam"):
            states = states[: draw.choice((2, 2, 3))]
            numbers = {"beta1": draw.number(0.0, 0.4, 0.9), "beta2": draw.number(0.0, 0.5, 0.999)}
            numbers["eps"] = draw.number(1e-8, 1e-8, 1e-3)
        else:
            numbers = {
                "momentum": draw.number(0.0, 0.9, 1.0),
                "dampening": draw.number(0.0, 0.0, 0.5),
            }
            still = type(numbers["momentum"]) is float and numbers["momentum"] == 0.0
            states = () if still and draw.chance(0.5) else states
        numbers["lr"] = draw.number(1e-3, 0.1, 1.0)
        numbers["decay"] = draw.number(0.0, 0.0, 1e-2, 0.5)
        numbers["scale"] = draw.number(1.0, 1.0, 0.5, 1024.0)
        options = {
            "maximize": draw.chance(0.2),
            "nonfinite": draw.choice(("raise", "raise", "skip", "ignore")),
            "threads": draw.choice((None, 1, 2)),
        }
        if rule.endswith("w"):
            options["independent"] = draw.chance(0.3)
        if rule.startswith("sgd"):
            options["nesterov"] = draw.chance(0.2)
        single = draw.chance(0.6)
        roles: dict[str, list[Any]] = {name: [] for name in ("p", "g", *states)}
        for _ in range(1 if single else draw.randrange(4)):
            shape, dtype = draw.shape(), draw.dtype()
            for name, row in roles.items():
                array = draw.values(shape, draw.dtype() if name == "g" else dtype)
                if "sq" in name:
                    array = abs(array)
                row.append(arena.array(array, apart=draw.chance(0.97)))
        if draw.chance(0.3) and roles["p"]:
            name = draw.choice(list(roles))
            roles[name][-1] = odd(draw, arena, roles[name][-1])
            if single and roles[name][0] is None and name in OPTIONAL:
                del roles[name]
        step = draw.choice((1, 1, 2, 3, 1000, 2**31, 2**53, 2**63, 2**64 - 1))
        if draw.chance(0.03):
            step = draw.choice((0, -1, 2**64, 1.0, True, None))
        return cls(rule, roles, single, step, numbers, options)

    def call(self) -> bool:
        numbers = dict(self.numbers)
        arguments: dict[str, Any] = {"lr": numbers["lr"], "scale": numbers["scale"]}
        arguments["weight_decay" if self.rule.endswith("w") else "l2"] = numbers["decay"]
        if self.rule.startswith("adam"):
            arguments["betas"] = (numbers["beta1"], numbers["beta2"])
            arguments["eps"] = numbers["eps"]
        else:
            arguments |= {key: numbers[key] for key in ("momentum", "dampening")}
            arguments["momentum_buffer"] = None
        given = {name: row[0] if self.single else row for name, row in self.roles.items()}
        return getattr(functional, self.rule)(
            **{**arguments, **given}, step=self.step, **self.options
        )

    def is_valid(self) -> bool:
        """Whether the contract accepts the call, apart from the values of gradients."""
        return self._numbers_fit() and self._arrays_fit() and self._coefficients_fit()

    def _numbers_fit(self) -> bool:
        numbers, adam = self.numbers, self.rule.startswith("adam")
        fits = type(self.step) is int and 1 <= self.step < 2**64
        fits &= in_range(numbers["lr"], 0) and in_range(numbers["scale"], 5e-324)
        if numbers["decay"] is not None or not self.rule.endswith("w"):
            fits &= in_range(numbers["decay"], 0)
        elif self.options["independent"]:
            return False
        if adam:
            fits &= all(in_range(numbers[key], 0, 1) for key in ("beta1", "beta2"))
            return fits and in_range(numbers["eps"], 0)
        keys = ("momentum", "dampening")
        fits &= all(in_range(numbers[key], 0, 1, closed=True) for key in keys)
        if fits and self.options["nesterov"]:
            fits &= numbers["momentum"] > 0 and numbers["dampening"] == 0
        if fits and numbers["momentum"] != 0:
            fits &= "momentum_buffer" in self.roles
        return fits

    def _arrays_fit(self) -> bool:
        arrays = []
        for name, row in self.roles.items():
            for array, p in zip(row, self.roles["p"], strict=True):
                if not (readable(array) if name == "g" else writable(array)) or not good(p):
                    return False
                if array.shape != p.shape or (name != "g" and array.dtype != p.dtype):
                    return False
                arrays.append((name, array))
        return not any(
            np.shares_memory(one, other)
            for i, (name, one) in enumerate(arrays)
            for other_name, other in arrays[:i]
            if (name, other_name) != ("g", "g")
        )

    def _coefficients_fit(self) -> bool:
        """Whether `eps` and the coefficients fit the types of the parameters."""
        lr, scale = float(self.numbers["lr"]), float(self.numbers["scale"])
        without_lr = self.options.get("independent", not self.rule.endswith("w"))
        coefficients = [lr, scale, self.decay if without_lr else lr * self.decay]
        eps = float(self.numbers.get("eps", 1.0))
        if self.rule.startswith("adam"):
            first = reference.one_minus_power(float(self.numbers["beta1"]), self.step)
            coefficients += [lr / first, eps]
        with np.errstate(over="ignore"):
            return all(
                eps >= EPS_MIN[dtype] and np.isfinite(np.array(coefficients, dtype)).all()
                for dtype in {p.dtype for p in self.roles["p"]} or {np.dtype("f8")}
            )

    @property
    def decay(self) -> float:
        return 1e-2 if self.numbers["decay"] is None else float(self.numbers["decay"])

    def nonfinite(self) -> int:
        """Number of gradient elements that the rule refuses."""
        count = 0
        for p, g in zip(self.roles["p"], self.roles["g"], strict=True):
            limit = LIMITS[p.dtype] if self.rule.startswith("adam") else math.inf
            scaled = abs(p.dtype.type(self.numbers["scale"])) * abs(g.astype(p.dtype))
            count += int(np.sum(~(scaled < p.dtype.type(limit))))
        return count

    def expected(self) -> list[tuple[np.ndarray, ...]]:
        """New parameter and state of each row, by the reference."""
        numbers, options = self.numbers, self.options
        decay = {"weight_decay" if self.rule.endswith("w") else "l2": self.decay}
        common = {
            "lr": float(numbers["lr"]),
            "scale": float(numbers["scale"]),
            "maximize": options["maximize"],
            "independent": options.get("independent", False),
            **decay,
        }
        results = []
        for row in zip(*self.roles.values(), strict=True):
            p, g, *state = (np.array(array, subok=False) for array in row)
            if self.rule.startswith("adam"):
                betas = (float(numbers["beta1"]), float(numbers["beta2"]))
                more = {"max_exp_avg_sq": state[2]} if len(state) == 3 else {}
                result = reference.adam(
                    p,
                    g,
                    *state[:2],
                    self.step,
                    betas=betas,
                    eps=float(numbers["eps"]),
                    **more,
                    **common,
                )
            else:
                momentum = {key: float(numbers[key]) for key in ("momentum", "dampening")}
                more = {"nesterov": options["nesterov"], **momentum}
                buffer = state[0] if state else None
                result = reference.sgd(p, g, buffer, self.step, **more, **common)
            results.append(result)
        return results


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays have equal bits; all NaNs are equal."""
    one, other = np.asarray(one), np.asarray(other)
    bits = f"u{one.dtype.itemsize}"
    equal = np.ascontiguousarray(one).view(bits) == np.ascontiguousarray(other).view(bits)
    return bool(np.all(equal | (np.isnan(one) & np.isnan(other))))


def same_outside(arena: Arena, memory: np.ndarray, written: Iterable[Any]) -> bool:
    """Whether the arena still equals `memory` outside the elements of the arrays in `written`."""
    now = arena.memory.copy()
    inside = [
        array
        for array in written
        if isinstance(array, np.ndarray)
        and array.flags.writeable
        and np.may_share_memory(array, arena.memory)
    ]
    blanked = []
    for side in (now, memory):
        arena.memory[...] = side
        for array in inside:
            array[...] = np.zeros((), array.dtype)
        blanked.append(arena.memory.copy())
    arena.memory[...] = now
    return bool((blanked[0] == blanked[1]).all())


def update(draw: Draw, arena: Arena) -> str:
    """One call of `thalweg.functional`."""
    case = Update.drawn(draw, arena)
    before = arena.memory.copy()
    outside = [
        np.array(array)
        for row in case.roles.values()
        for array in row
        if isinstance(array, np.ndarray)
    ]
    valid = case.is_valid()
    bad = case.nonfinite() if valid else 0
    expected = case.expected() if valid else []
    policy = case.options["nonfinite"]
    try:
        done = case.call()
    except REFUSALS as error:
        expect(not valid, f"refused what is valid: {error}")
        outcome = type(error).__name__
    except thalweg.NonFiniteError as error:
        expect(valid and bad and policy == "raise", f"not so: {error}")
        expect(sum(error.nonfinite.values()) == bad, f"{bad} elements, said {error.nonfinite}")
        outcome = "NonFiniteError"
    else:
        expect(valid, "took what is not valid")
        expect(done or policy == "skip", "skipped without being asked to")
        expect(done != (bad > 0 and policy != "ignore"), f"done is {done} with {bad} bad elements")
        outcome = "updated" if done else "skipped"
    if outcome == "updated":
        written = [row for name, row in case.roles.items() if name != "g"]
        for row, results in zip(zip(*written, strict=True), expected, strict=True):
            for array, result in zip(row, results, strict=True):
                expect(same(array, result), "other bits than the reference")
        arrays = [array for row in written for array in row]
        expect(same_outside(arena, before, arrays), "wrote outside the elements")
    else:
        expect((arena.memory == before).all(), "refused, and changed memory")
        now = [
            array for row in case.roles.values() for array in row if isinstance(array, np.ndarray)
        ]
        expect(
            all(a.tobytes() == b.tobytes() for a, b in zip(now, outside, strict=True)),
            "refused, and changed an array",
        )
    return f"{case.rule}: {outcome}"


def snapshot(opt: thalweg.Optimizer) -> Any:
    arrays = [(name, np.asarray(array).tobytes()) for name, array in opt.params.items()]
    for name, leaf in opt.state.items():
        arrays += [
            (f"{name}/{key}", value if key == "step" else value.tobytes())
            for key, value in leaf.items()
        ]
    return opt.step_count, arrays, [repr(group) for group in opt.groups]


def tree(draw: Draw, leaves: Sequence[Any], depth: int = 0) -> Any:
    """Leaves in random nested containers."""
    if depth < 2 and len(leaves) > 1 and draw.chance(0.5):
        cut = draw.randrange(1, len(leaves))
        leaves = [tree(draw, leaves[:cut], depth + 1), tree(draw, leaves[cut:], depth + 1)]
    kind = draw.randrange(4)
    if kind == 0:
        return list(leaves)
    if kind == 1:
        return tuple(leaves)
    named = {draw.choice(("w", "b", "x.y", "é")) + str(i): leaf for i, leaf in enumerate(leaves)}
    return UserDict(named) if kind == 2 and draw.chance(0.2) else named


GROUPS: list[Any] = [
    [{"match": "*", "lr_scale": 0.5}],
    [{"match": "*0*", "frozen": True}],
    [{"match": "*", "lr": lambda step: 1 / step}],
    [thalweg.no_decay()],
    [{"match": "zz"}],
    [{}],
    ["*"],
    None,
]


def optimizer(draw: Draw, arena: Arena) -> str:
    """Construct an optimizer and apply random actions to it."""
    leaves = [
        arena.array(draw.values(draw.shape(), draw.dtype())) for _ in range(draw.randrange(1, 5))
    ]
    if draw.chance(0.15):
        leaves[-1] = odd(draw, arena, leaves[-1])
    params = tree(draw, leaves)
    cls = draw.choice((thalweg.AdamW, thalweg.Adam, thalweg.SGD, thalweg.SGDW))
    options: dict[str, Any] = {"nonfinite": draw.choice(("raise", "skip", "ignore"))}
    if draw.chance(0.3):
        options["groups"] = draw.choice(GROUPS)
    if cls in (thalweg.SGD, thalweg.SGDW):
        options["momentum"] = draw.number(0.0, 0.9)
    try:
        opt = cls(params, lr=draw.number(1e-3, 0.1), **options)
    except REFUSALS:
        return "optimizer: not made"
    history = []
    for _ in range(draw.randrange(1, 6)):
        name, prepare = draw.choice(ACTIONS)
        act = prepare(draw, arena, opt)
        before, memory = snapshot(opt), arena.memory.copy()
        try:
            opt = act() or opt
        except (*REFUSALS, thalweg.NonFiniteError, AttributeError) as error:
            expect(snapshot(opt) == before, f"{name} raised {error!r} and changed something")
            expect((arena.memory == memory).all(), f"{name} raised {error!r} and changed memory")
            history.append(f"{name} refused")
        else:
            history.append(name)
    return f"optimizer: {history[-1]}"


def step(draw: Draw, arena: Arena, opt: thalweg.Optimizer) -> Callable[[], None]:
    arrays = list(opt.params.values())
    shapes = [array.shape if isinstance(array, np.ndarray) else () for array in arrays]
    grads: list[Any] = [draw.values(shape, draw.dtype()) for shape in shapes]
    if draw.chance(0.5):
        grads = [arena.array(grad) for grad in grads]
    if draw.chance(0.3):
        grads[-1] = draw.choice((None, odd(draw, arena, np.asarray(grads[-1])), arrays[-1]))
    named: Any = dict(zip(opt.params, grads, strict=True))
    if draw.chance(0.2):
        named.pop(draw.choice(list(named)))
    if draw.chance(0.1):
        named[draw.choice(("new", "0", "w0", 7))] = np.ones(3)
    form = draw.choice((named, named, named, grads, UserDict(named), grads[0], None))
    max_norm = None if draw.chance(0.6) else draw.number(1.0, 1e-3, 1e3)
    options = {"max_norm": max_norm, "scale": draw.number(1.0, 2.0), "partial": draw.chance(0.3)}

    def act() -> None:
        memory = arena.memory.copy()
        report = opt.step(form, **options)
        expect(report.step == opt.step_count, "the report counts otherwise")
        expect(same_outside(arena, memory, arrays), "a step wrote outside the parameters")

    return act


def edit(draw: Draw, _: Arena, opt: thalweg.Optimizer) -> Callable[[], None]:
    keys = ("lr", "eps", "betas", "weight_decay", "l2", "frozen", "lr_scale", "momentum")
    values = (draw.number(0.1, 0.5), (0.5, 0.5), True, lambda _: 0.5, lambda _: "x")
    group, key, value = draw.choice(opt.groups), draw.choice(keys), draw.choice(values)
    return lambda: setattr(group, key, value)


def rebind(draw: Draw, arena: Arena, opt: thalweg.Optimizer) -> Callable[[], None]:
    named: dict[str, Any] = {name: np.array(array) for name, array in opt.params.items()}
    last = next(reversed(named))
    if good(named[last]) and draw.chance(0.5):
        named[last] = odd(draw, arena, named[last])
    return lambda: opt.rebind(named)


def load(draw: Draw, arena: Arena, opt: thalweg.Optimizer) -> Callable[[], None]:
    saved = opt.state_dict()
    place: Any = saved
    while draw.chance(0.8) and len(place):
        key = draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], dict | list) and draw.chance(0.8):
            place = place[key]
            continue
        if isinstance(place[key], np.ndarray):
            place[key] = odd(draw, arena, place[key])
        else:
            place[key] = draw.choice((draw.number(1, 0.5), None, {}, [], "x", -1, 2**70, object()))
        break
    options = {
        "hyperparameters": draw.choice(("saved", "current")),
        "strict": draw.chance(0.7),
    }

    def act() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opt.load_state_dict(saved, **options)

    return act


def alter(draw: Draw, _: Arena, opt: thalweg.Optimizer) -> Callable[[], None]:
    """Change the flags or the shape of an array that the optimizer holds."""
    arrays = [array for array in opt.params.values() if isinstance(array, np.ndarray)]
    array = draw.choice(arrays or [np.ones(1)])
    with contextlib.suppress(ValueError):  # NumPy refuses some changes
        if draw.chance(0.5):
            array.setflags(write=draw.chance(0.5))
        elif array.flags.owndata and not array.dtype.hasobject:
            array.resize(draw.shape(), refcheck=False)
    return lambda: None


def reset(draw: Draw, _: Arena, opt: thalweg.Optimizer) -> Callable[[], None]:
    matches = (None, "*", "w*", "nothing", 3, lambda _, array: array.ndim == 0)
    match = draw.choice(matches)
    return lambda: opt.reset(match)


def duplicate(draw: Draw, _: Arena, opt: thalweg.Optimizer) -> Callable[[], Any]:
    scheduled = any(callable(value) for group in opt.groups for value in values_of(group).values())
    ways = (copy.copy, copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt)))  # noqa: S301 - our own bytes
    way = copy.copy if scheduled else draw.choice(ways)
    return lambda: way(opt)


ACTIONS: list[tuple[str, Callable[[Draw, Arena, Any], Callable[[], Any]]]] = [
    *[("step", step)] * 5,
    ("edit", edit),
    ("rebind", rebind),
    ("load", load),
    ("alter", alter),
    ("reset", reset),
    ("duplicate", duplicate),
]


def trees(draw: Draw, arena: Arena) -> str:
    """One call of `decay`, `clip_by_global_norm` or `global_norm`."""
    leaves: list[Any] = []
    for _ in range(draw.randrange(4)):
        values = draw.values(draw.shape(), draw.dtype())
        leaves.append(arena.array(values, apart=draw.chance(0.9)))
    if leaves and draw.chance(0.3):
        leaves[0] = odd(draw, arena, leaves[0])
    given, number = tree(draw, leaves), draw.number(0.1, 1.0)
    name = draw.choice(("decay", "clip_by_global_norm", "global_norm"))
    flat = thalweg.tree.flatten(given)
    valid = trees_fit(name, list(flat.values()), number)
    before = arena.memory.copy()
    clean = {key: np.array(leaf, subok=False) for key, leaf in flat.items()} if valid else {}
    try:
        arguments = (given,) if name == "global_norm" else (given, number)
        found = getattr(functional, name)(*arguments)
    except REFUSALS as error:
        expect(not valid, f"{name} refused what is valid: {error}")
        expect((arena.memory == before).all(), f"{name} refused, and changed memory")
        return f"{name}: refused"
    expect(valid, f"{name} took what is not valid")
    if name == "decay":
        expected = {key: reference.decay(array, float(number)) for key, array in clean.items()}
    else:
        norm = reference.global_norm(clean)
        expect(str(found) == str(norm), f"the norm is {found}, not {norm}")
        factor = reference.clip_factor(clean, norm_limit(number)) if name[0] == "c" else 1.0
        finite = all(np.isfinite(array).all() for array in clean.values())
        factor = factor if finite else 1.0
        expected = {key: array.dtype.type(factor) * array for key, array in clean.items()}
    expect(all(same(leaf, expected[key]) for key, leaf in flat.items()), f"{name}: other bits")
    written = [] if name == "global_norm" else flat.values()
    expect(same_outside(arena, before, written), f"{name} wrote outside the elements")
    return f"{name}: done"


def norm_limit(number: Any) -> float:
    """The limit of the norm as a float; integers beyond the range of floats are infinite."""
    return math.inf if isinstance(number, int) and number > sys.float_info.max else float(number)


def trees_fit(name: str, leaves: list[Any], number: Any) -> bool:
    if name == "global_norm":
        return all(readable(leaf) for leaf in leaves)
    if not all(writable(leaf) for leaf in leaves) or any(
        np.shares_memory(one, other) for i, one in enumerate(leaves) for other in leaves[:i]
    ):
        return False
    if name == "decay":
        return in_range(number, 0) and not any(np.isinf(a.dtype.type(number)) for a in leaves)
    whole = isinstance(number, int) and not isinstance(number, bool)
    return in_range(number, 5e-324) or ((type(number) is float or whole) and number > 0)


KINDS = [update] * 4 + [optimizer] * 3 + [trees]


def one(seed: int) -> str:
    """Run one input, and return its outcome."""
    draw = Draw(seed)
    with np.errstate(all="ignore"):
        return draw.choice(KINDS)(draw, Arena(draw))

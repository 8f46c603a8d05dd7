"""Inputs of the boundary fuzzer, and the oracle that judges them.

An input is a number, the seed of everything: arrays in one arena (strided, transposed, misaligned,
overlapping, of other types, no arrays at all), hyperparameters, options. The oracle uses NumPy,
`thalweg.reference` and the encodings of `thalweg.compact` only, and decides whether the call must
succeed. If so, the result has the bits of these and every other byte of the arena is unchanged. If
not, the call raises `TypeError` or `ValueError` (`NonFiniteError` for nonfinite gradients) and no
byte has changed.
"""

from __future__ import annotations

import contextlib
import copy
import math
import pickle
import sys
import warnings
from collections import UserDict
from typing import TYPE_CHECKING, Any

import numpy as np

import thalweg
from formulas import AVERAGES_OF_SQUARES, FORMULAS, STATE_NAMES
from fuzz_draw import (
    HALVES,
    REFUSALS,
    Arena,
    Draw,
    expect,
    good,
    in_range,
    odd,
    readable,
    same,
    same_outside,
    writable,
)
from fuzz_narrow import narrow, numbers, parts
from fuzz_rows import are_indices, indices, rows
from fuzz_update import update
from thalweg import compact, functional, reference
from thalweg.groups.group import values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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
    [{"match": "*0*", "state": "full"}],
    [{"match": "*1*", "state": "bfloat16"}],
    [{"match": "*0*", "rows": "lazy", "row_steps": True}],
    [{"match": "*1*", "rows": "dense"}],
    [{}],
    ["*"],
    None,
]


CLASSES = [getattr(thalweg, name) for name in FORMULAS]
FORMATS = ("full", "full", "bfloat16", "compact")


def formats(cls: type[thalweg.Optimizer]) -> tuple[str, ...]:
    """Formats of the state of an optimizer."""
    return FORMATS if any(map(cls.rule.keeps, AVERAGES_OF_SQUARES)) else FORMATS[:3]


def is_bits(_: str, array: Any) -> bool:
    """Whether a parameter has the bits of bfloat16."""
    return isinstance(array, np.ndarray) and array.dtype == np.uint16


def parameter(draw: Draw, state: Any) -> np.ndarray:
    """A parameter that mostly can have this state; compact state needs many elements."""
    shape = (64, 65) if state == "compact" and draw.chance(0.4) else draw.shape()
    if state == "full" and draw.chance(0.3):
        return draw.values(shape, np.dtype("f8"))
    values = draw.values(shape, np.dtype("f4"))
    if draw.chance(0.2):
        return compact.encode_bfloat16(values)
    return values.astype("f8" if draw.chance(0.02) else draw.choice(("f4", "f4", *HALVES)))


def optimizer(draw: Draw, arena: Arena) -> str:
    """Construct an optimizer and apply random actions to it."""
    cls = draw.choice(CLASSES)
    state = draw.choice(formats(cls))
    state = draw.choice(("int8", "compact", None)) if draw.chance(0.03) else state
    leaves = [arena.array(parameter(draw, state)) for _ in range(draw.randrange(1, 5))]
    if draw.chance(0.15):
        leaves[-1] = odd(draw, arena, leaves[-1])
    params = tree(draw, leaves)
    options: dict[str, Any] = {"nonfinite": draw.choice(("raise", "skip", "ignore"))}
    options |= {"state": state, "bfloat16": declared(draw, params)}
    if draw.chance(0.4):
        options["rows"] = True if draw.chance(0.02) else draw.choice(("lazy", "dense"))
        options["row_steps"] = draw.chance(0.5 if options["rows"] == "lazy" else 0.02)
    if draw.chance(0.3):
        options["groups"] = draw.choice(GROUPS)
    if "momentum" in cls.rule.keys:
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


def declared(draw: Draw, params: Any) -> Any:
    """A selection of the parameters that have the bits of bfloat16, seldom of others."""
    names = [name for name, leaf in thalweg.tree.flatten(params).items() if is_bits(name, leaf)]
    return draw.choice((*[names, is_bits] * 5, "*", ())) if names else ()


def gradient(draw: Draw, array: Any) -> np.ndarray:
    shape = array.shape if isinstance(array, np.ndarray) else ()
    values = draw.values(shape, draw.gradient_dtype())
    bits = is_bits("", array) and draw.chance(0.5)
    return compact.encode_bfloat16(values.astype("f4")) if bits else values


def of_rows(draw: Draw, grad: np.ndarray) -> Any:
    """The gradient of some rows, mostly of those that the parameter has."""
    if not grad.ndim or draw.chance(0.2):
        return grad
    at = indices(draw, len(grad))
    return thalweg.Rows(at, grad[at % len(grad)]) if at.size and are_indices(at) else grad


def step(draw: Draw, arena: Arena, opt: thalweg.Optimizer) -> Callable[[], None]:
    arrays = list(opt.params.values())
    grads: list[Any] = [gradient(draw, array) for array in arrays]
    if draw.chance(0.5):
        grads = [arena.array(grad) for grad in grads]
    if draw.chance(0.3):
        grads = [of_rows(draw, grad) for grad in grads]
    elif draw.chance(0.3):
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
    keys = ("lr", "eps", "betas", "weight_decay", "l2", "frozen", "lr_scale", "momentum", "state")
    values = (draw.number(0.1, *FORMATS), (0.5, 0.5), True, lambda _: 0.5, lambda _: "x")
    group, key, value = draw.choice(opt.groups), draw.choice(keys), draw.choice(values)
    return lambda: setattr(group, key, value)


def rebind(draw: Draw, arena: Arena, opt: thalweg.Optimizer) -> Callable[[], None]:
    named: dict[str, Any] = {name: np.array(array) for name, array in opt.params.items()}
    last = next(reversed(named))
    if good(named[last], types="fdeEH") and draw.chance(0.5):
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
        "convert": draw.chance(0.3),
    }

    def act() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opt.load_state_dict(saved, **options)

    return act


def convert(draw: Draw, _: Arena, opt: thalweg.Optimizer) -> Callable[[], None]:
    """Load the state of an optimizer that has another format."""
    params = {name: np.array(array) for name, array in opt.params.items()}
    grads = {name: draw.values(array.shape, np.dtype("f4")) for name, array in params.items()}
    options = {"state": draw.choice(formats(type(opt))), "bfloat16": declared(draw, params)}
    if "momentum" in opt.rule.keys:
        options["momentum"] = 0.9
    converts = draw.chance(0.8)

    def act() -> None:
        other = type(opt)(params, lr=0.1, nonfinite="ignore", **options)
        other.step(grads)
        opt.load_state_dict(other.state_dict(), convert=converts, hyperparameters="current")
        for name in opt.state:
            expect_near(opt.state[name], other.state[name])

    return act


def expect_near(leaf: Any, source: Any) -> None:
    """State equals that which was loaded, decoded exactly and encoded once to nearest."""
    for key in STATE_NAMES & leaf.keys():
        made = parts(key, numbers(key, source), leaf[key].dtype.char, None)
        kept = source if source[key].dtype == leaf[key].dtype else made
        expect(all(same(leaf[part], kept[part]) for part in made), f"{key} is converted otherwise")


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
    *[("convert", convert)] * 2,
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


KINDS = [update] * 4 + [narrow] * 4 + [rows] * 2 + [optimizer] * 3 + [trees]


def one(seed: int) -> str:
    """Run one input, and return its outcome."""
    draw = Draw(seed)
    with np.errstate(all="ignore"):
        return draw.choice(KINDS)(draw, Arena(draw))

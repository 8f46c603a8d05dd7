"""Calls of `thalweg.functional` with full state, and the oracle that judges them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import thalweg
from formulas import EPS_MIN, FUNCTIONS, NEVER_NEGATIVE, STATE_CHOICES, Formula
from fuzz_draw import (
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
from thalweg import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

READ = ("g", "indices")
OPTIONAL = ("max_exp_avg_sq", "grad_avg", "momentum_buffer")
USUAL: dict[str, tuple[float, ...]] = {
    "lr": (1e-3, 0.1, 1.0),
    "eps": (1e-8, 1e-8, 1e-3),
    "eps_root": (0.0, 1e-16, 1e-3),
    "alpha": (0.0, 0.4, 0.99),
    "l2": (0.0, 0.0, 1e-2, 0.5),
    "weight_decay": (0.0, 0.0, 1e-2, 0.5),
    "update_rms": (0.0, 0.0, 0.3),
    "r": (0.0, 0.5),
    "weight_lr_power": (2.0, 0.0),
    "momentum": (0.0, 0.9, 1.0),
    "dampening": (0.0, 0.0, 0.5),
    "lr_decay": (0.0, 0.1),
    "initial_accumulator_value": (0.0, 0.1),
    "scale": (1.0, 1.0, 0.5, 1024.0),
}


def computed(p: np.ndarray) -> np.dtype[Any]:
    """The type in which the rule of a parameter computes."""
    return p.dtype if p.dtype == np.float64 else np.dtype("f4")


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
        rule = draw.choice(tuple(FUNCTIONS))
        formula = FUNCTIONS[rule]
        numbers = {}
        for key in (*formula.values, *formula.optional, "scale"):
            if key == "betas":
                numbers |= {"beta1": draw.number(0.0, 0.4, 0.9)}
                numbers |= {"beta2": draw.number(0.0, 0.5, 0.99, 0.999)}
            else:
                numbers[key] = draw.number(*USUAL[key])
        still = type(numbers.get("momentum")) is float and numbers["momentum"] == 0.0
        on = {key: draw.chance(0.3) for key in STATE_CHOICES}
        on["momentum"] = not still or draw.chance(0.5)
        states = formula.states(on.get)
        options = {
            "maximize": draw.chance(0.2),
            "nonfinite": draw.choice(("raise", "raise", "skip", "ignore")),
            "threads": draw.choice((None, 1, 2)),
        }
        for key in ("cautious", "independent", "nesterov"):
            if key in formula.choices:
                options[key] = draw.chance(0.25)
        single = draw.chance(0.6)
        roles: dict[str, list[Any]] = {name: [] for name in cls.names(states)}
        for _ in range(1 if single else draw.randrange(4)):
            row = cls.row(draw, states)
            for name, column in roles.items():
                dense = name == "history" and draw.chance(0.97)
                column.append(cls.placed(draw, arena, row.get(name), dense=dense))
        if draw.chance(0.3) and roles["p"]:
            name = draw.choice(list(roles))
            roles[name][-1] = cls.replaced(draw, arena, roles[name][-1])
            if single and roles[name][0] is None and name in OPTIONAL:
                del roles[name]
        step = draw.choice((1, 1, 2, 3, 1000, 2**31, 2**53, 2**63, 2**64 - 1))
        if draw.chance(0.03):
            step = draw.choice((0, -1, 2**64, 1.0, True, None))
        return cls(rule, roles, single, step, numbers, options)

    @classmethod
    def names(cls, states: Sequence[str]) -> tuple[str, ...]:
        """Names of the array arguments."""
        return ("p", "g", *states)

    @classmethod
    def row(cls, draw: Draw, states: Sequence[str]) -> dict[str, np.ndarray]:
        """The arrays of one parameter by name."""
        shape, dtype = draw.shape(), draw.dtype()
        row = {"p": draw.values(shape, dtype), "g": draw.values(shape, draw.gradient_dtype())}
        return row | cls.state(draw, states, shape, dtype)

    @classmethod
    def state(
        cls, draw: Draw, states: Sequence[str], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> dict[str, np.ndarray]:
        """The state of a parameter."""
        arrays = {name: draw.values(shape, dtype) for name in states}
        for name in arrays.keys() & NEVER_NEGATIVE:
            arrays[name] = abs(arrays[name])
        return arrays | cls.history(draw, states)

    @classmethod
    def history(cls, draw: Draw, states: Sequence[str]) -> dict[str, np.ndarray]:
        """What a rule keeps of earlier steps, if it does; mostly what a step can leave."""
        if "history" not in states:
            return {}
        odd_ones = ([0.0, 0.0, 0.0], [-1.0, 1.0, 0.5], [0.1, np.nan, 0.5], [0.1, 1e308, 1e-60])
        usual = [draw.choice((0.01, 2.0)), draw.choice((0.0, 0.5)), draw.choice((0.4, 0.9))]
        return {"history": np.array(draw.choice(odd_ones) if draw.chance(0.1) else usual)}

    @classmethod
    def placed(cls, draw: Draw, arena: Arena, array: Any, *, dense: bool = False) -> Any:
        """The array in the arena, seldom over another one."""
        return arena.array(array, apart=draw.chance(0.97), dense=dense)

    @classmethod
    def replaced(cls, draw: Draw, arena: Arena, array: Any) -> Any:
        """A replacement for an array, mostly invalid."""
        return odd(draw, arena, array)

    def rows(self) -> list[dict[str, Any]]:
        """The arrays of each parameter by name."""
        columns = zip(*self.roles.values(), strict=True)
        return [dict(zip(self.roles, row, strict=True)) for row in columns]

    def given(self) -> dict[str, list[Any]]:
        """The arguments, a value for each parameter."""
        return dict(self.roles)

    def read(self, row: dict[str, Any]) -> dict[str, Any]:
        """The arrays of a parameter that the call reads and writes."""
        return {name: array for name, array in row.items() if array is not None}

    def gradients(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Parameters and what is the gradient of each."""
        return list(zip(self.roles["p"], self.roles["g"], strict=True))

    def call(self) -> bool:
        arguments = dict(self.numbers)
        if "beta1" in arguments:
            arguments["betas"] = (arguments.pop("beta1"), arguments.pop("beta2"))
        if "momentum" in arguments:
            arguments["momentum_buffer"] = None
        given = {
            name: column[0] if self.single else column for name, column in self.given().items()
        }
        return getattr(functional, self.rule)(
            **{**arguments, **given}, step=self.step, **self.options
        )

    def is_valid(self) -> bool:
        """Whether the contract accepts the call, apart from the values of gradients."""
        return self._numbers_fit() and self._arrays_fit() and self._coefficients_fit()

    def _numbers_fit(self) -> bool:
        numbers = self.numbers
        fits = type(self.step) is int and 1 <= self.step < 2**64
        fits &= in_range(numbers["lr"], 0) and in_range(numbers["scale"], 5e-324)
        by_default = "weight_decay" in numbers and numbers["weight_decay"] is None
        fits &= not (by_default and self.options["independent"])
        for key in numbers.keys() - {"lr", "scale"}:
            if numbers[key] is None and key in ("weight_decay", "update_rms"):
                continue
            if key in ("momentum", "dampening"):
                fits &= in_range(numbers[key], 0, 1, closed=True)
            elif key in ("beta1", "beta2", "alpha"):
                fits &= in_range(numbers[key], 0, 1)
            else:
                fits &= in_range(numbers[key], 0)
        if fits and self.options.get("nesterov"):
            fits &= numbers["momentum"] > 0 and numbers["dampening"] == 0
        if fits and "history" in self.formula.state:
            fits &= numbers["beta1"] > 0
        if fits and numbers.get("momentum", 0) != 0:
            fits &= "momentum_buffer" in self.roles
        return fits

    def _arrays_fit(self) -> bool:
        rows = self.rows()
        arrays = [pair for row in rows for pair in self.read(row).items()]
        return all(self.fits(name, row) for row in rows for name in row) and not any(
            np.shares_memory(one, other)
            for i, (name, one) in enumerate(arrays)
            for other_name, other in arrays[:i]
            if (name, other_name) != ("g", "g")
        )

    def fits(self, name: str, row: dict[str, Any]) -> bool:
        """Whether an array fits the others of its parameter, apart from overlap."""
        p, array = row["p"], row[name]
        if not good(p):
            return False
        if name == "history":
            return writable(array, types="d") and array.shape == (3,) and array.flags.c_contiguous
        fits = readable(array) if name == "g" else writable(array, types=p.dtype.char)
        return fits and array.shape == p.shape

    def _coefficients_fit(self) -> bool:
        """Whether `eps` and the coefficients fit the types of the parameters."""
        values = self.values()
        independent = self.options.get("independent", False)
        coefficients = self.formula.coefficients(values, self.step, independent=independent)
        if "history" in self.roles and not all(map(self._history_fits, self.rows() or [None])):
            return False
        with np.errstate(over="ignore"):
            return all(
                values.get("eps", 1.0) >= EPS_MIN[dtype]
                and np.isfinite(np.array([values["scale"], *coefficients], dtype)).all()
                for dtype in {computed(p) for p in self.roles["p"]} or {np.dtype("f8")}
            )

    def _history_fits(self, row: dict[str, Any] | None) -> bool:
        """Whether a step can have left the history, and the coefficients from it are finite.

        A call without rows checks the first step of a float64 parameter, which has no history.
        """
        step, dtype = (self.step, computed(row["p"])) if row else (1, np.dtype("f8"))
        keys = ("lr", "beta1", "r", "weight_lr_power")
        lr, beta1, r, weight_lr_power = (float(self.numbers[key]) for key in keys)
        largest, total, last = row["history"] if row and step > 1 else (0.0, 0.0, beta1)
        if not (0.0 <= largest < math.inf and 0.0 <= total < math.inf and 0.0 < last < 1.0):
            return False
        with np.errstate(over="ignore", invalid="ignore"):
            weight = np.float64(step) ** r * np.float64(max(largest, lr)) ** weight_lr_power
            ratio = dtype.type(beta1 / last)
            return bool(np.isfinite(total + weight) and np.isfinite(ratio))

    @property
    def formula(self) -> Formula:
        return FUNCTIONS[self.rule]

    def values(self) -> dict[str, Any]:
        """The hyperparameters as the reference takes them."""
        defaults = self.formula.values
        values = {
            key: defaults.get(key, 0.0) if value is None else float(value)
            for key, value in self.numbers.items()
        }
        if "beta1" in values:
            values["betas"] = (values.pop("beta1"), values.pop("beta2"))
        return values

    def nonfinite(self) -> int:
        """Number of gradient elements that the rule refuses."""
        count = 0
        for p, g in self.gradients():
            dtype = computed(p)
            scaled = abs(dtype.type(self.numbers["scale"])) * abs(g.astype(dtype))
            count += int(np.sum(self.formula.refuses(scaled)))
        return count

    def expected(self, row: dict[str, Any]) -> dict[str, np.ndarray]:
        """The new parameter and state of a row, by the reference."""
        return self.applied({name: np.array(array, subok=False) for name, array in row.items()})

    def applied(self, row: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The rule, applied to a row that has one type."""
        p, g, *_ = row.values()
        state = {name: array for name, array in row.items() if name not in ("p", "g")}
        choices = {key: self.options.get(key, False) for key in self.formula.choices}
        result = self.formula.define(p, g, state, self.step, {**self.values(), **choices})
        return dict(zip((name for name in row if name != "g"), result, strict=True))


def update(draw: Draw, arena: Arena) -> str:
    """One call of `thalweg.functional`."""
    return judged(Update.drawn(draw, arena), arena)


def judged(case: Update, arena: Arena) -> str:
    """Make a call, and compare what it does with the oracle."""
    before = arena.memory.copy()
    outside = [
        np.array(array)
        for row in case.roles.values()
        for array in row
        if isinstance(array, np.ndarray)
    ]
    valid = case.is_valid()
    bad = case.nonfinite() if valid else 0
    expected = [case.expected(row) for row in case.rows()] if valid else []
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
        for row, results in zip(case.rows(), expected, strict=True):
            for name, result in results.items():
                expect(same(row[name], result), f"{name} has other bits than the reference")
        arrays = [array for row in case.rows() for name, array in row.items() if name not in READ]
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

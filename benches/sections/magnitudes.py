"""The promise of constant speed: no magnitude makes a step slow, however small.

Subnormal numbers take some processors many times as long, others hardly longer: the section begins
with what they cost here. Each part of a step's input in turn, and all but the parameter together,
get every order of magnitude; then there is the state that 70,000 zero gradients leave.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from subjects import ADAMW, AMSGRAD, MOMENTUM_SGD, TYPES, Array, Rule, filled, state_of
from tables import Table
from timing import Timed, against

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike

    from sections import Options

TITLE = "time of a step over that of an ordinary one"
RULES = (ADAMW, AMSGRAD, MOMENTUM_SGD)
SIZES = (4 << 20, 4_096)
EXPONENTS = {"float32": range(-45, 1), "float64": range(-320, 1, 8)}
ZERO_STEPS = 70_000
ALL = "all but p"
SQUARES = {"exp_avg_sq", "max_exp_avg_sq"}
SHORT = {"exp_avg": "m", "exp_avg_sq": "v", "max_exp_avg_sq": "u", "momentum_buffer": "b"}
AGAIN = 4
"""The worst of hundreds of noisy ratios is mostly noise, so it gets so many times the rounds."""

Contents = dict[str, Array]


class Bed:
    """An optimizer of one array, whose arrays are written anew before every step."""

    def __init__(self, rule: Rule, dtype: DTypeLike, elements: int) -> None:
        self.title = f"{rule.name} {dtype}, {elements:,}"
        self.elements = elements
        self._p = np.empty(elements, dtype)
        self._opt = rule.make(self._p)
        self._live = {"p": self._p, **state_of(self._opt, "0")}
        self.ordinary = {name: _ordinary(name, elements, dtype) for name in [*self._live, "g"]}

    def timed(self, changed: Contents) -> Timed:
        """Return a step on ordinary contents but for those that are `changed`."""
        contents = {**self.ordinary, **changed}
        pairs = [(array, contents[name]) for name, array in self._live.items()]
        return Timed(partial(self._opt.step, contents["g"]), prepare=partial(_restore, pairs))

    def scaled(self, role: str, exponent: int) -> Contents:
        """Return arrays of magnitudes from ``10**exponent`` to ten times that."""
        names = [name for name in self.ordinary if name != "p"] if role == ALL else [role]
        return {
            name: _decade(exponent, self.elements, self._p.dtype, signed=name not in SQUARES)
            for name in names
        }

    @property
    def roles(self) -> list[str]:
        """What can be of another magnitude than the rest."""
        return [*self.ordinary, ALL]


def _ordinary(name: str, elements: int, dtype: DTypeLike) -> Array:
    if name in SQUARES:
        return np.square(filled(elements, dtype, 0.01))
    return filled(elements, dtype, 1.0 if name == "p" else 0.01)


def _decade(exponent: int, elements: int, dtype: DTypeLike, *, signed: bool) -> Array:
    rng = np.random.default_rng(0)
    digits = rng.uniform(1.0, 10.0, 4_093)
    if signed:
        digits *= rng.choice([-1.0, 1.0], digits.size)
    return np.resize((digits * 10.0**exponent).astype(dtype), elements)


def _restore(pairs: list[tuple[Array, Array]]) -> None:
    for live, contents in pairs:
        live[...] = contents


def _after_zero_gradients(rule: Rule, bed: Bed) -> Contents:
    """Return what an ordinary array has become; a small one, tiled, has the same values."""
    small = {name: array[:256].copy() for name, array in bed.ordinary.items()}
    opt = rule.make(small["p"], nonfinite="ignore")
    opt.step(small["g"])
    zero = np.zeros_like(small["g"])
    for _ in range(ZERO_STEPS):
        opt.step(zero)
    left = {"p": small["p"], **state_of(opt, "0"), "g": zero}
    return {name: np.resize(array, bed.elements) for name, array in left.items()}


def _penalty(elements: int) -> float:
    """How many times as long NumPy takes to divide subnormal numbers."""
    normal, out = np.full(elements, 0.7, np.float32), np.empty(elements, np.float32)
    quotients = [partial(np.divide, x, normal, out=out) for x in (normal * 1e-40, normal)]
    subnormal, ordinary = map(Timed, quotients)
    return against(subnormal, ordinary, rounds=9)


def _sweep(bed: Bed, exponents: range, rounds: int) -> Mapping[tuple[str, int], float]:
    """Print and return the ratios of all roles and exponents."""
    roles = bed.roles
    table = Table(bed.title, *(SHORT.get(role, role) for role in roles))
    ordinary = bed.timed({})
    found = {}
    for exponent in exponents:
        for role in roles:
            case = bed.timed(bed.scaled(role, exponent))
            found[role, exponent] = against(case, ordinary, rounds)
        table.row(f"1e{exponent}", *(found[role, exponent] for role in roles))
    return found


def _one(rule: Rule, bed: Bed, exponents: range, rounds: int) -> None:
    found = _sweep(bed, exponents, rounds)
    ordinary = bed.timed({})
    zeros = against(bed.timed(_after_zero_gradients(rule, bed)), ordinary, rounds)
    worst = max(found, key=lambda case: found[case])
    again = against(bed.timed(bed.scaled(*worst)), ordinary, AGAIN * rounds)
    role, exponent = worst
    print(f"after {ZERO_STEPS:,} zero gradients: {zeros:.2f}")
    print(
        f"worst {found[worst]:.2f}, {SHORT.get(role, role)} at 1e{exponent}; "
        f"with {AGAIN} times the rounds {again:.2f}\n"
    )


def run(options: Options) -> None:
    """Measure each rule with both types, in memory and in cache."""
    print(f"NumPy divides subnormal numbers in {_penalty(4_096):.2f} times the time of others\n")
    for elements in options.pick(SIZES, (1_024, 64)):
        for rule in RULES:
            for dtype in map(np.dtype, TYPES):
                exponents = EXPONENTS[dtype.name]
                chosen = options.pick(exponents, exponents[:: (len(exponents) - 1) // 2])
                _one(rule, Bed(rule, dtype, elements), chosen, options.rounds_or(5))

"""The promise of constant speed: no magnitude makes a step slow, however small.

Subnormal numbers take many times as long on some processors and hardly longer on others, so the
section first measures their cost on this one. Then each array of a step in turn, and all but the
parameter together, get every order of magnitude. The last case is the state that 70,000 zero
gradients leave.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.cli.bench.contenders import CONTENDERS, FLOAT32, FLOAT64, Contender
from thalweg.cli.bench.display import print_table
from thalweg.cli.bench.rounds import race
from thalweg.cli.bench.stepper import Step
from thalweg.cli.bench.tables import three_digits

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from sections import Options
    from thalweg.cli.bench.formulas import Array, Arrays

TITLE = "time of a step over that of an ordinary one"
RULES = ("thalweg", "thalweg-amsgrad", "thalweg-sgd")
SIZES = (4 << 20, 4_096)
EXPONENTS: dict[np.dtype[Any], range] = {FLOAT32: range(-45, 1), FLOAT64: range(-320, 1, 8)}
ZERO_STEPS = 70_000
STATES = {1: ("b",), 2: ("m", "v"), 3: ("m", "v", "u")}
SQUARES = {"v", "u"}
ALL = "all but p"
SAMPLE_SECONDS = 1e-4
"""Short samples, because the preparation of each step takes longer than the step."""
AGAIN = 4
"""Times as many rounds for the worst ratio: the worst of hundreds is mostly noise."""


class Bed:
    """An optimizer of one parameter whose arrays are reset before every step."""

    def __init__(self, contender: Contender, dtype: DTypeLike, elements: int) -> None:
        self.title = f"{contender.label} {dtype}, {elements:,}"
        self._elements, self._dtype = elements, dtype
        self._contender = contender
        self._states = STATES[contender.rule.states]
        names = ("p", *self._states, "g")
        self._ordinary = {name: _ordinary(name, elements, dtype) for name in names}
        self._step, self._live = self._built(self._ordinary)
        self.roles = (*names, ALL)

    def step(self, changed: Arrays) -> Step:
        """Return a step on the ordinary contents, replaced where `changed` has others."""
        contents = {**self._ordinary, **changed}
        pairs = [(array, contents[name]) for name, array in self._live.items()]
        return Step(self._step.run, prepare=partial(_restore, pairs))

    def scaled(self, role: str, exponent: int) -> Arrays:
        """Return arrays of magnitudes from ``10**exponent`` to ten times that."""
        names = ("g", *self._states) if role == ALL else (role,)
        return {
            name: _decade(exponent, self._elements, self._dtype, signed=name not in SQUARES)
            for name in names
        }

    def after_zero_gradients(self, steps: int) -> Arrays:
        """Return the arrays after `steps` zero gradients, computed on a small array and tiled."""
        step, live = self._built({name: a[:256] for name, a in self._ordinary.items()})
        step.run()
        live["g"].fill(0)
        for _ in range(steps):
            step.run()
        return {name: np.resize(array, self._elements) for name, array in live.items()}

    def _built(self, contents: Arrays) -> tuple[Step, Arrays]:
        """Return a step of a new optimizer, and its live arrays."""
        p, g = contents["p"].copy(), contents["g"].copy()
        stepper = self._contender.build({"0": p})
        step = stepper.bind({"0": g})
        state = zip(self._states, stepper.written()["0"][1:], strict=True)
        return step, {"p": p, **dict(state), "g": g}


def _ordinary(name: str, elements: int, dtype: DTypeLike) -> Array:
    values = np.random.default_rng(0).standard_normal(4_093)
    if name != "p":
        values *= 0.01
    return np.resize((values**2 if name in SQUARES else values).astype(dtype), elements)


def _decade(exponent: int, elements: int, dtype: DTypeLike, *, signed: bool) -> Array:
    rng = np.random.default_rng(0)
    digits = rng.uniform(1.0, 10.0, 4_093)
    if signed:
        digits *= rng.choice([-1.0, 1.0], digits.size)
    return np.resize((digits * 10.0**exponent).astype(dtype), elements)


def _restore(pairs: list[tuple[Array, Array]]) -> None:
    for live, contents in pairs:
        live[...] = contents


def _over(ordinary: Step, others: dict[Any, Step], rounds: int) -> dict[Any, float]:
    """Return the time of each step over that of `ordinary`, measured in turn."""
    times = race({None: ordinary, **others}, rounds, SAMPLE_SECONDS)
    return {key: times[key].ratio(times[None]) for key in others}


def _penalty(elements: int) -> float:
    """Return NumPy's time to divide subnormal numbers, over that for normal ones."""
    normal, out = np.full(elements, 0.7, np.float32), np.empty(elements, np.float32)
    subnormal, ordinary = (
        Step(partial(np.divide, x, normal, out=out)) for x in (normal * np.float32(1e-40), normal)
    )
    return _over(ordinary, {"": subnormal}, rounds=9)[""]


def _measure(bed: Bed, exponents: range, zero_steps: int, rounds: int) -> None:
    """Print the ratio of each role and exponent, then the worst with more rounds."""
    ordinary = bed.step({})
    found: dict[tuple[str, int], float] = {}
    for exponent in exponents:
        steps = {(role, exponent): bed.step(bed.scaled(role, exponent)) for role in bed.roles}
        found |= _over(ordinary, steps, rounds)
    cells = [
        (f"1e{exponent}", *(three_digits(found[role, exponent]) for role in bed.roles))
        for exponent in exponents
    ]
    print_table(bed.title, ("magnitude", *bed.roles), cells)
    worst = max(found, key=lambda case: found[case])
    last = {
        "zeros": bed.step(bed.after_zero_gradients(zero_steps)),
        "worst": bed.step(bed.scaled(*worst)),
    }
    again = _over(ordinary, last, AGAIN * rounds)
    role, exponent = worst
    print(f"after {zero_steps:,} zero gradients: {again['zeros']:.2f}")
    print(
        f"worst {found[worst]:.2f}, {role} at 1e{exponent}; "
        f"with {AGAIN} times the rounds {again['worst']:.2f}"
    )


def run(options: Options) -> None:
    """Measure each rule with both types, in memory and in cache."""
    print(f"NumPy divides subnormal numbers in {_penalty(4_096):.2f} times the time of others")
    zero_steps = options.pick(ZERO_STEPS, 70)
    for elements in options.pick(SIZES, (1_024, 64)):
        for name in RULES:
            for dtype, exponents in EXPONENTS.items():
                chosen = options.pick(exponents, exponents[:: (len(exponents) - 1) // 2])
                bed = Bed(CONTENDERS[name], dtype, elements)
                _measure(bed, chosen, zero_steps, options.rounds_or(9))

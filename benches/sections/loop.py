"""The work of a training loop beside the update: statistics, sums of gradients, averages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import thalweg
from sections import compare
from thalweg import reference
from thalweg.cli.bench.cases import large
from thalweg.cli.bench.contenders import BASELINE, FLOAT32, FLOAT64, Contender, ours
from thalweg.cli.bench.formulas import Formula
from thalweg.cli.bench.native import adamw
from thalweg.cli.bench.stepper import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from sections import Options
    from thalweg.cli.bench.formulas import Array, Arrays, Update
    from thalweg.cli.bench.stepper import Stepper

TITLE = "statistics, accumulation and averages of one large tensor"
ELEMENTS = 64 << 20
DECAY = 0.999


class Sum:
    """An `Accumulator` as a contender: sums stand for parameters."""

    def __init__(self, params: Arrays) -> None:
        self._sum = thalweg.Accumulator(params)

    def bind(self, grads: Arrays) -> Step:
        """Return the addition."""
        return Step(partial(self._sum.add, grads))

    def parameters(self) -> Arrays:
        """Return the sums."""
        return {name: total for name, total in self._sum.grads.items() if total is not None}

    def written(self) -> dict[str, list[Array]]:
        """Return nothing."""
        return {}


class Average:
    """An `EMA` as a contender: averages stand for parameters, parameters for gradients."""

    def __init__(self, params: Arrays) -> None:
        self._read = params
        self._average = thalweg.EMA(params, DECAY)

    def bind(self, grads: Arrays) -> Step:
        """Write the gradients where the average reads, and return the update."""
        for name, g in grads.items():
            self._read[name][...] = g
        return Step(self._average.update)

    def parameters(self) -> Arrays:
        """Return the averages."""
        averages: Arrays = self._average.params
        return averages

    def written(self) -> dict[str, list[Array]]:
        """Return nothing."""
        return {}


def _accumulate(p: Array, g: Array, *_state: Array, step: int, scale: float) -> tuple[Array, ...]:
    return (reference.accumulate(p, g, scale, step),)


def _average(p: Array, g: Array, *_state: Array, step: int, scale: float) -> tuple[Array, ...]:
    return (reference.average(p, scale * g, step, DECAY, bias_correction=False),)


def _passes(dtype: np.dtype[Any]) -> list[Contender]:
    def row(name: str, build: Callable[[Arrays], Stepper], update: Update) -> Contender:
        return Contender(
            name, f"{name}, {dtype}", build, Formula(update, 0), dtype=dtype, ours=True
        )

    return [row("Accumulator.add", Sum, _accumulate), row("EMA.update", Average, _average)]


def run(options: Options) -> None:
    """Measure statistics against the same step without, passes against the memory limit."""
    case = large(options.elements or options.pick(ELEMENTS, 4_096))
    for label, nonfinite in (("AdamW, default", "raise"), ("AdamW, ignore", "ignore")):
        plain = ours(BASELINE, label, adamw, nonfinite=nonfinite)
        statistics = ours("stats", f"{label}, stats", adamw, nonfinite=nonfinite, stats=True)
        compare(case, [plain, statistics], options.effort)
    compare(case, [*_passes(FLOAT32), *_passes(FLOAT64)], options.effort)

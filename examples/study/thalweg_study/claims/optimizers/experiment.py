"""The runs: one grid for all rules, and the best of each with other seeds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from thalweg_study.grids import Grid, Size, maps
from thalweg_study.methods import METHODS as DESCRIBED
from thalweg_study.statistics import Interval, mean_interval
from thalweg_study.wording import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thalweg_study.claim import Perform, Setting
    from thalweg_study.grids import Map
    from thalweg_study.statistics import Floats
    from thalweg_study.training import Training

BASE = "adamw"
OTHERS = (
    "nadamw",
    "radamw",
    "adabelief",
    "lion",
    "rmsprop",
    "adagrad",
    "schedule-free",
    "cautious",
    "stable",
    "sgdw",
)
METHODS = (BASE, *OTHERS)
PAIRS = tuple(combinations(METHODS, 2))

MODEL = "mlp"
DECADES = ((-4.0, 0.0), (-4.5, 1.5))
"""Of learning rates and decays, for all rules."""

SCHEDULES = {"schedule-free": "fixed"}
"""Of the rules that do without the cosine of the others."""


@dataclass(frozen=True)
class Scale:
    """How much is run."""

    size: Size
    comparing: int
    """Seeds that compare."""


QUICK = Scale(Size(epochs=15, seeds=2, a_decade=1), comparing=10)
FULL = Scale(Size(epochs=60, seeds=8, a_decade=2, decays_a_decade=1), comparing=60)


def scale_of(setting: Setting) -> Scale:
    """Return how much is run in a setting."""
    return FULL if setting.thorough else QUICK


def plan(setting: Setting) -> list[Training]:
    """Return the grids and the runs that compare, with any setting in place of the best."""
    return [
        task
        for grid in _grids(setting)
        for task in (*grid.tasks(), *_comparison(setting, grid, (grid.lrs[0], grid.decays[0])))
    ]


def run(setting: Setting, perform: Perform) -> Results:
    """Perform the tasks."""
    tuned = maps(_grids(setting), perform)
    tasks = [task for of in tuned.values() for task in _comparison(setting, of.grid, of.tuned())]
    errors = np.array([record["test_error"] for record in perform(tasks)])
    return Results(tuned, dict(zip(tuned, errors.reshape(len(tuned), -1), strict=True)))


def _grids(setting: Setting) -> list[Grid]:
    size = scale_of(setting).size
    return [
        Grid(setting.data, MODEL, method, size, DECADES, SCHEDULES.get(method, "cosine"))
        for method in METHODS
    ]


def _comparison(setting: Setting, grid: Grid, best: tuple[float, float]) -> list[Training]:
    return grid.comparison(best, scale_of(setting).comparing)


@dataclass(frozen=True)
class Results:
    """The grids that tuned the rules, and the runs of their best settings."""

    maps: Mapping[str, Map]
    errors: Mapping[str, Floats]
    """Test errors, one a seed that compares."""

    @property
    def order(self) -> list[str]:
        """The rules, from the lowest mean test error."""
        return sorted(self.errors, key=lambda method: float(self.errors[method].mean()))

    def more(self, method: str) -> Interval:
        """Return how much more test error a rule has than AdamW, in pairs of seeds.

        The intervals hold together for all rules.
        """
        return mean_interval(self.errors[method] - self.errors[BASE], len(OTHERS))

    def apart(self, one: str, other: str) -> bool:
        """Whether two rules can be told apart: by intervals that hold together for all pairs."""
        difference = mean_interval(self.errors[one] - self.errors[other], len(PAIRS))
        return not difference.contains(0)

    def over_rates(self, method: str) -> Floats:
        """Return validation errors at the best decay: (learning rates, seeds)."""
        of = self.maps[method]
        return of.validation[:, of.best()[1]]

    def near(self, method: str, reach: float) -> tuple[float, float]:
        """Return the learning rates around the best one whose mean error is within a reach of its.

        The smallest and the largest of those that follow each other, at the best decay.
        """
        of = self.maps[method]
        errors = self.over_rates(method).mean(axis=-1)
        first = last = of.best()[0]
        close = errors <= errors[first] + reach
        while first > 0 and close[first - 1]:
            first -= 1
        while last < len(close) - 1 and close[last + 1]:
            last += 1
        return of.grid.lrs[first], of.grid.lrs[last]

    def borrowed(self, method: str) -> Interval:
        """Return how much more test error a rule has with AdamW's best pair than with its own.

        On the seeds that tune.
        """
        test = self.maps[method].test
        return mean_interval(test[self.maps[BASE].best()] - test[self.maps[method].best()])


def method(setting: Setting) -> str:
    """Return how it was done."""
    scale, grid = scale_of(setting), _grids(setting)[0]
    size, example = scale.size, grid.tasks()[0]
    rates, decays = (listed([f"{value:g}" for value in axis]) for axis in (grid.lrs, grid.decays))
    penalised = listed(
        [DESCRIBED[name].label for name in METHODS if DESCRIBED[name].decay.startswith("l2")]
    )
    return (
        f"The multilayer perceptron learns {example.size} pictures of {setting.data} for "
        f"{size.epochs} epochs in batches of {example.batch_size} ({example.steps} steps): the "
        "same pictures, first weights and batches for all rules. All are tuned on one grid, of "
        f"learning rates {rates} and decays {decays}, with {size.seeds} seeds; the smallest mean "
        f"validation error chooses. The best pair then runs with {scale.comparing} other seeds, "
        "the same for all rules, and test errors are compared seed by seed. A rule has the "
        "decoupled decay lr·decay·p if it has one, and biases are spared; for "
        f"{penalised} the decay is an L2 penalty, decay·p in the gradient, which is why the grid "
        "reaches from small to large decays. Momentum, or β₁, is 0.9, also that of RMSprop; "
        "Adagrad has none. β₂ is 0.999, that of Lion and RMSprop 0.99; StableAdamW is AdamW with "
        "update_rms=1. eps is thalweg's default. The learning rate falls along a cosine to zero; "
        "that of schedule-free AdamW is constant, and its network is looked at under the average. "
        "None has a warmup. Intervals are Student's, of the mean paired difference. Those to AdamW "
        f"hold together with 95 % confidence, each having a risk of {5 / len(OTHERS):.2g} %; those "
        f"that tell pairs of rules apart hold together for all {len(PAIRS)}, each with "
        f"{5 / len(PAIRS):.2g} % (Bonferroni). They are about seeds: other networks and other data "
        "can have another order."
    )

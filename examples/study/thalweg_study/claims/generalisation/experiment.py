"""The runs: grids that tune every method, and its best with other seeds; what to read from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thalweg_study.grids import Grid, maps, size_of
from thalweg_study.statistics import Interval, mean_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from thalweg_study.claim import Perform, Setting
    from thalweg_study.grids import Map
    from thalweg_study.statistics import Floats
    from thalweg_study.task import Record
    from thalweg_study.training import Training

METHODS = ("adam", "adamw", "sgdw", "sgd")
LOOKS = 30
CLOSE = 1.25
"""Largest quotient of training losses that are called equal."""

LEAST = 1e-12
"""Losses below have no logarithm of their own."""


def plan(setting: Setting) -> list[Training]:
    """Return the grids and the runs that compare, with any setting in place of the best."""
    return [
        task
        for model in models(setting)
        for grid in _grids(setting, model)
        for task in (*grid.tasks(), *_comparison(grid, (grid.lrs[0], grid.decays[0]), setting))
    ]


def run(setting: Setting, perform: Perform) -> list[Runs]:
    """Perform the tasks, one model after the other."""
    return [_run(setting, model, perform) for model in models(setting)]


def models(setting: Setting) -> Sequence[str]:
    """Return which networks are trained."""
    return ("mlp", "conv") if setting.thorough else ("mlp",)


def _run(setting: Setting, model: str, perform: Perform) -> Runs:
    tuned = maps(_grids(setting, model), perform)
    tasks = [task for of in tuned.values() for task in _comparison(of.grid, of.tuned(), setting)]
    records = np.array(perform(tasks), object).reshape(len(METHODS), -1)
    return Runs(
        model=model,
        maps=tuned,
        records={method: list(row) for method, row in zip(tuned, records, strict=True)},
    )


def _seeds(setting: Setting) -> int:
    return 60 if setting.thorough else 10


def _grids(setting: Setting, model: str) -> list[Grid]:
    size = size_of(setting, model)
    return [Grid(setting.data, model, method, size) for method in METHODS]


def _comparison(grid: Grid, best: tuple[float, float], setting: Setting) -> list[Training]:
    return grid.comparison(best, _seeds(setting), LOOKS)


@dataclass(frozen=True)
class Runs:
    """The grids that tuned the methods, and the runs of their best settings, a record a seed."""

    model: str
    maps: Mapping[str, Map]
    records: Mapping[str, Sequence[Record]]

    def test_errors(self, method: str) -> Floats:
        """Return the test error of every seed at the end."""
        return np.array([record["test_error"] for record in self.records[method]])

    def difference(self, one: str, other: str) -> Interval:
        """Return how much more test error one has than the other, in pairs of seeds."""
        return mean_interval(self.test_errors(one) - self.test_errors(other))

    def difference_at_equal_loss(self, one: str, other: str) -> Interval | None:
        """Return the same where runs of both end with equal training loss.

        The other has its best setting; the one has the best of those whose runs end as low, or
        None if there are none. One half of the seeds of the grid chooses and the other half
        compares, both ways round, so that no run is compared that was chosen.
        """
        mine, theirs = self.maps[one], self.maps[other]
        differences = []
        for first in (0, 1):
            choosing, comparing = mine.seeds[first::2], mine.seeds[1 - first :: 2]
            best = theirs.best(choosing)
            losses = _logs(mine.train_loss[:, :, choosing]).mean(axis=-1)
            level = _logs(theirs.train_loss[best][choosing]).mean()
            close = np.abs(losses - level) <= np.log(CLOSE)
            if not close.any():
                return None
            validation = mine.validation[:, :, choosing].mean(axis=-1)
            errors = np.where(close, validation, np.inf)
            row, column = np.unravel_index(errors.argmin(), errors.shape)
            mean = mine.test[row, column, comparing] - theirs.test[best][comparing]
            differences.append(mean)
        return mean_interval(np.concatenate(differences))

    def difference_on_the_way(self, one: str, other: str) -> Interval:
        """Return the same where the best runs of both first had the same training loss.

        For each seed that is the larger of the final losses of the two, so one of them is at its
        end there, with a learning rate of zero, and the other is not.
        """
        differences = []
        for mine, theirs in zip(self.records[one], self.records[other], strict=True):
            level = max(mine["train_loss"], theirs["train_loss"])
            differences.append(error_at_loss(mine, level) - error_at_loss(theirs, level))
        return mean_interval(differences)


def error_at_loss(record: Record, level: float) -> float:
    """Return the test error of a run when its training loss first came down to a level.

    Linear between two looks, over the logarithm of the loss; the first look's, or the last's, where
    the level is beyond.
    """
    losses, wanted = _logs(record["curves"]["train_loss"]), _logs(level)
    errors = record["curves"]["test_error"]
    reached = np.flatnonzero(losses <= wanted)
    if len(reached) == 0:
        return float(errors[-1])
    after = int(reached[0])
    if after == 0:
        return float(errors[0])
    share = (losses[after - 1] - wanted) / (losses[after - 1] - losses[after])
    return float(errors[after - 1] + share * (errors[after] - errors[after - 1]))


def _logs(losses: ArrayLike) -> Floats:
    logs: Floats = np.log(np.maximum(losses, LEAST))
    return logs


def method(setting: Setting) -> str:
    """Return how it was done."""
    sizes = "; ".join(
        f"{model}: {size.epochs} epochs, {size.a_decade} values in a factor of ten, "
        f"{size.seeds} seeds to tune"
        for model in models(setting)
        for size in (size_of(setting, model),)
    )
    return (
        f"Models: {' and '.join(models(setting))}, on {setting.data}. Learning rate and decay of "
        f"every method are those of the smallest mean validation error on a grid ({sizes}). The "
        f"best pair then runs with {_seeds(setting)} other seeds, the same for all methods, and "
        "test errors are compared seed by seed, with Student's intervals of 95 % for the mean "
        f"difference. The networks are looked at {LOOKS} times on the way. Equal training loss, at "
        "the end: AdamW has its best pair; of the pairs of Adam + L2 whose runs end with a "
        f"training loss of at most {CLOSE:g} times more or less, in geometric means over seeds, "
        "the one with the smallest validation error is compared with it. This is done on the grid, "
        "where half of the seeds choose both pairs and the other half compares them, both ways "
        "round. Equal training loss, on the way, much as in the paper's figure 3: the larger of "
        "the two methods' final training losses of that seed, and each method's test error when it "
        "first is that low, by linear interpolation over the logarithm of the loss. There one of "
        "the two is at the end of its schedule and the other, which fits better, is not, and its "
        "learning rate has yet to fall; that alone costs it some test error, so this is shown and "
        "not judged."
    )

"""What was run to compare the methods, and what can be read from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thalweg.study.statistics import Interval, mean_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thalweg.study.grids import Floats, Map
    from thalweg.study.task import Record

METHODS = ("adam", "adamw", "sgdw", "sgd")


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

    def difference_at_equal_loss(self, one: str, other: str) -> Interval:
        """Return the same where both have reached the same training loss.

        For each seed that is the larger of the final losses of the two.
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
    losses = np.log(record["curves"]["train_loss"])
    errors = record["curves"]["test_error"]
    reached = np.flatnonzero(losses <= np.log(level))
    if len(reached) == 0:
        return float(errors[-1])
    after = int(reached[0])
    if after == 0:
        return float(errors[0])
    share = (losses[after - 1] - np.log(level)) / (losses[after - 1] - losses[after])
    return float(errors[after - 1] + share * (errors[after] - errors[after - 1]))

"""Numbers with their uncertainty: means over seeds, paired differences, bootstraps over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Callable

Floats: TypeAlias = NDArray[np.floating[Any]]

CONFIDENCE = 0.95
RESAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval of 95 % confidence around it."""

    estimate: float
    low: float
    high: float

    def above(self, value: float) -> bool:
        """Whether the whole interval is above ``value``."""
        return self.low > value

    def below(self, value: float) -> bool:
        """Whether the whole interval is below ``value``."""
        return self.high < value

    def within(self, low: float, high: float) -> bool:
        """Whether the whole interval lies between the two."""
        return low <= self.low and self.high <= high

    def contains(self, value: float) -> bool:
        """Whether ``value`` lies in the interval."""
        return self.low <= value <= self.high

    def scaled(self, factor: float) -> Interval:
        """Return the interval in another unit, or of another sign."""
        low, high = sorted((factor * self.low, factor * self.high))
        return Interval(factor * self.estimate, low, high)

    def __format__(self, spec: str) -> str:
        """Format as in ``1.2 (1.0 to 1.4)``, each number by ``spec``."""
        return f"{self.estimate:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


def mean_interval(values: ArrayLike, together: int = 1) -> Interval:
    """Return the mean of independent values with Student's interval.

    For a paired comparison pass the differences. The interval of a single value is not finite.
    It is one of so many that hold ``together`` with 95 % confidence, by Bonferroni's inequality:
    each alone has a ``together``-th of the risk.
    """
    sample = np.asarray(values, np.float64)
    mean = float(sample.mean())
    if sample.size < 2:
        return Interval(mean, -np.inf, np.inf)
    error = float(sample.std(ddof=1)) / np.sqrt(sample.size)
    tail = (1 - CONFIDENCE) / 2 / together
    reach = float(stats.t.ppf(1 - tail, sample.size - 1)) * error
    return Interval(mean, mean - reach, mean + reach)


def bootstrap(statistic: Callable[[NDArray[np.intp]], float], seeds: int) -> Interval:
    """Return a statistic of seeds with the interval of percentiles of the bootstrap.

    Parameters
    ----------
    statistic : callable
        Computes it from indices of seeds, in which a seed may occur more than once. Resamples for
        which it is NaN are left out.
    seeds : int
        How many there are.
    """
    generator = np.random.default_rng(0)
    values = np.array(
        [statistic(generator.integers(0, seeds, seeds)) for _ in range(RESAMPLES)], np.float64
    )
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return Interval(statistic(np.arange(seeds)), float(low), float(high))

"""How the good settings of a method lie in its map: along the axes, or diagonally.

The best decay of every learning rate makes a line on logarithmic axes. A slope of 0 means that the
best decay does not depend on the learning rate, -1 that their product counts, 1 their ratio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thalweg_study.statistics import Interval, bootstrap, mean_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thalweg_study.grids import Map
    from thalweg_study.statistics import Floats

NEAR = 1.4
"""Learning rates and decays count up to this best error, in units of the best of all."""

LOST = 0.5
"""An error beyond which a run has learnt nothing that counts."""

FEWEST = 3
"""Learning rates that a slope needs."""


@dataclass(frozen=True)
class Basin:
    """The best decays of the learning rates at which there is something to see."""

    lrs: Floats
    decays: Floats
    slope: Interval | None
    """Of the logarithms; None where too few learning rates count."""

    @property
    def lies(self) -> str:
        """Along the axes or diagonally, if the interval of the slope says so."""
        if self.slope is None:
            return "undecided"
        if self.slope.within(-0.5, 0.5):
            return "along the axes"
        if self.slope.below(-0.5) or self.slope.above(0.5):
            return "diagonally"
        return "undecided"


RULE = (
    "The slope is that of the straight line through the best decays, on logarithmic axes. The "
    "basin lies along the axes if the whole interval is between -0.5 and 0.5, diagonally if all of "
    "it is below -0.5 or all of it above 0.5. Holds if it lies as is claimed, does not hold if it "
    "lies the other way; undecided if the interval allows either, or if fewer than "
    f"{FEWEST} learning rates count."
)


def basin(of: Map) -> Basin:
    """Find the best decay of every learning rate that counts, and the slope of the line they make.

    A learning rate counts if its best error is near the best of the map, if decay helps there (its
    best is better than the smallest decay in a paired comparison) and is not the largest of the
    grid, and if it is stable (no run with as little decay or less has lost its way).
    """
    lrs, decays = np.log10(of.grid.lrs), np.log10(of.grid.decays)
    rows = _that_count(of)
    errors = of.held_out[rows]

    def floor(seeds: NDArray[np.intp]) -> Floats:
        return _lowest(decays, errors[:, :, seeds].mean(axis=-1))

    def slope(seeds: NDArray[np.intp]) -> float:
        away = lrs[rows] - lrs[rows].mean()
        return float(away @ floor(seeds) / (away @ away))

    enough = len(rows) >= FEWEST
    return Basin(
        lrs=10 ** lrs[rows],
        decays=10 ** floor(of.seeds),
        slope=bootstrap(slope, len(of.seeds)) if enough else None,
    )


def cost_of_tuning_apart(of: Map, seeds: NDArray[np.intp]) -> float:
    """Return the loss from tuning one after the other, in test error.

    First the learning rate with the smallest decay, then the decay with that learning rate, both by
    validation error; compared with the best of all pairs.
    """
    validation = of.validation[:, :, seeds].mean(axis=-1)
    row = int(validation[:, 0].argmin())
    column = int(validation[row].argmin())
    test = of.test[:, :, seeds].mean(axis=-1)
    return float(test[row, column] - test[of.best(seeds)])


def cost_from_anywhere(of: Map, seeds: NDArray[np.intp]) -> float:
    """Return the average of that loss if the first decay is any that counts."""
    validation = of.validation[:, :, seeds].mean(axis=-1)
    test = of.test[:, :, seeds].mean(axis=-1)
    starts = validation.min(axis=0) <= NEAR * validation.min()
    rows = validation.argmin(axis=0)[starts]
    columns = validation[rows].argmin(axis=1)
    return float(test[rows, columns].mean() - test[of.best(seeds)])


def gain(of: Map, seeds: NDArray[np.intp]) -> float:
    """Return what decay gains in test error: the best with the smallest minus the best of all.

    Both are chosen by validation error.
    """
    row = int(of.validation[:, 0, seeds].mean(axis=-1).argmin())
    test = of.test[:, :, seeds].mean(axis=-1)
    return float(test[row, 0] - test[of.best(seeds)])


def _that_count(of: Map) -> NDArray[np.intp]:
    held_out = of.held_out
    means = held_out.mean(axis=-1)
    lost: NDArray[np.bool_] = of.stopped.any(axis=-1) | (held_out.max(axis=-1) > LOST)
    counting = []
    for row, errors in enumerate(means):
        best = int(errors.argmin())
        gain = held_out[row, 0] - held_out[row, best]
        if (
            errors[best] <= NEAR * means.min()
            and 0 < best < len(errors) - 1
            and mean_interval(gain).above(0)
            and not lost[row, : best + 1].any()
        ):
            counting.append(row)
    return np.array(counting, np.intp)


def _lowest(positions: Floats, heights: Floats) -> Floats:
    """Return for each row of heights where the parabola through its lowest points is lowest.

    These are the lowest and its neighbours. Positions have equal distances; an end stays an end.
    """
    rows = np.arange(len(heights))
    lowest = heights.argmin(axis=1)
    inner = lowest.clip(1, len(positions) - 2)
    left, middle, right = (heights[rows, inner + side] for side in (-1, 0, 1))
    curvature = left - 2 * middle + right
    shift = np.divide(left - right, 2 * curvature, where=curvature > 0, out=np.zeros(len(rows)))
    vertex = positions[inner] + shift * (positions[1] - positions[0])
    places: Floats = np.where(lowest == inner, vertex, positions[lowest])
    return places

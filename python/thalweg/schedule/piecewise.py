"""Schedules given point by point: values from certain steps on, or knots of a curve."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from thalweg.schedule import checks
from thalweg.schedule.base import Schedule
from thalweg.schedule.curve import interpolate

Points: TypeAlias = Mapping[int, float] | Iterable[tuple[int, float]]
Kept: TypeAlias = tuple[tuple[int, float], ...]


@dataclass(frozen=True, repr=False)
class piecewise_constant(Schedule):
    """Constant values, each from a given step on.

    Parameters
    ----------
    values : mapping of int to float, or pairs
        The first step of each value, one of them step 1. Kept as a tuple of pairs sorted by step.

    Examples
    --------
    >>> from thalweg import schedule
    >>> s = schedule.piecewise_constant({1: 0.1, 4: 0.2})
    >>> [s(step) for step in range(1, 6)]
    [0.1, 0.1, 0.1, 0.2, 0.2]
    """

    values: Points

    def __post_init__(self) -> None:
        checks.points(self, "values")

    def _at(self, step: int) -> float:
        values = cast("Kept", self.values)
        return values[bisect_right(values, (step, math.inf)) - 1][1]

    def __repr__(self) -> str:
        return f"piecewise_constant({dict(self.values)!r})"


@dataclass(frozen=True, repr=False)
class piecewise_interpolated(Schedule):
    """Knots, joined by straight lines or half cosines; the last value stays.

    Parameters
    ----------
    knots : mapping of int to float, or pairs
        Values at given steps, one of them step 1. Kept as a tuple of pairs sorted by step.
    shape : {"linear", "cosine"}, default "linear"
        Shape of the curve between knots.

    Examples
    --------
    >>> from thalweg import schedule
    >>> s = schedule.piecewise_interpolated({1: 0.0, 5: 1.0, 7: 0.5})
    >>> [s(step) for step in range(1, 9)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.5]
    """

    knots: Points
    shape: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        checks.points(self, "knots")
        checks.choice(self, "shape", "linear", "cosine")

    def _at(self, step: int) -> float:
        return interpolate(cast("Kept", self.knots), step, self.shape)

    def __repr__(self) -> str:
        shape = "" if self.shape == "linear" else f", shape={self.shape!r}"
        return f"piecewise_interpolated({dict(self.knots)!r}{shape})"

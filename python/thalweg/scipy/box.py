"""Validation of x0 and bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import Bounds

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Box:
    """``lower <= x <= upper`` for each element; infinite without a bound."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    bounded: bool
    """False if there are no bounds at all: projections then change no bit."""

    @property
    def free(self) -> NDArray[np.bool_]:
        """Mask of the elements that can move."""
        return self.lower < self.upper

    def project(self, x: NDArray[np.float64]) -> None:
        """Project `x` to the nearest point of the box, in place."""
        if self.bounded:
            np.clip(x, self.lower, self.upper, out=x)

    def slope(self, x: NDArray[np.float64], gradient: NDArray[np.float64]) -> float:
        """Largest magnitude in the projected gradient, which is zero where a bound stops `x`.

        As in L-BFGS-B, each element is at most the distance to the bound in its direction.
        """
        if self.bounded:
            gradient = np.clip(gradient, x - self.upper, x - self.lower)
        return float(np.abs(gradient).max(initial=0.0))


def start(x0: Any) -> NDArray[np.float64]:
    """A one-dimensional float64 copy of x0.

    Raises
    ------
    TypeError, ValueError
        If x0 is not real or not finite.
    """
    given = np.asarray(x0)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"x0 must be real numbers, got {given.dtype}")
    x = given.astype(np.float64).ravel()
    if not np.isfinite(x).all():
        raise ValueError(f"x0 must be finite, got {some_of(x[~np.isfinite(x)])}")
    return x


def make_box(bounds: Any, size: int) -> Box:
    """The box of SciPy's `bounds` for `size` variables.

    Raises
    ------
    TypeError, ValueError
        If they have the wrong type or size, are NaN, or leave no point.
    """
    if bounds is None:
        return Box(np.full(size, -np.inf), np.full(size, np.inf), bounded=False)
    lower, upper = ends(bounds)
    if lower.size != size and not (isinstance(bounds, Bounds) and lower.size == 1):
        raise ValueError(f"bounds must be for the {size} variables of x0, got {lower.size}")
    lower, upper = np.broadcast_to(lower, size), np.broadcast_to(upper, size)
    # In this form, a comparison with NaN counts as empty.
    empty = ~((lower <= upper) & (lower < np.inf) & (upper > -np.inf))
    if empty.any():
        at = int(np.flatnonzero(empty)[0])
        raise ValueError(
            f"the bounds of x[{at}] must have a number between them, got {lower[at]} and "
            f"{upper[at]}"
        )
    return Box(lower, upper, bounded=True)


def ends(bounds: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bounds as float64 arrays."""
    if isinstance(bounds, Bounds):
        lower, upper = np.broadcast_arrays(bounds.lb, bounds.ub)
        return lower.astype(np.float64).ravel(), upper.astype(np.float64).ravel()
    try:
        pairs = [
            (-np.inf if low is None else float(low), np.inf if high is None else float(high))
            for low, high in bounds
        ]
    except (TypeError, ValueError) as error:
        raise TypeError(
            "bounds must be a scipy.optimize.Bounds or a (low, high) for each variable, with None "
            f"for no bound, got {bounds!r}"
        ) from error
    both = np.array(pairs, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def some_of(numbers: NDArray[np.float64]) -> str:
    """The first three numbers, for a message."""
    return ", ".join(map(str, numbers[:3])) + (", ..." if numbers.size > 3 else "")

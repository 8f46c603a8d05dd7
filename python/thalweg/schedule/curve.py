"""The curves that schedules are made of, each stated once.

A piece of a schedule goes from one value to another. How far it has come is known as two shares,
`done` and `left`, each a quotient of exact numbers: neither is one minus the other, which would
lose digits near an end.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, Literal, TypeAlias

from thalweg._core import half_cosine

if TYPE_CHECKING:
    from collections.abc import Sequence

Shape: TypeAlias = Literal["linear", "cosine", "sqrt"]


def mix(low: float, high: float, share: float) -> float:
    """From `low` at share 0 to `high` at share 1, both exact, and never beyond the two.

    Rounding may lengthen ``high - low`` by half a unit in its last place; a share below 1 is at
    most ``1 - 2⁻⁵³``, which takes off as much, so there is nothing to clamp.
    """
    return high if share == 1.0 else low + (high - low) * share


def remaining(shape: Shape, done: float, left: float) -> float:
    """What is left of a fall from 1 to 0.

    ``linear`` is ``left``, ``cosine`` ``(1 + cos(π·done))/2``, and ``sqrt`` ``1 - √done``, as
    ``left/(1 + √done)``, which does not cancel.
    """
    if shape == "linear":
        return left
    return half_cosine(done, left) if shape == "cosine" else left / (1.0 + math.sqrt(done))


def interpolate(knots: Sequence[tuple[float, float]], position: float, shape: Shape) -> float:
    """Go through all knots (position, value), and stay at the last."""
    after = bisect_right(knots, (position, math.inf))
    if after == len(knots):
        return knots[-1][1]
    (start, value), (end, target) = knots[after - 1], knots[after]
    length = end - start
    left = remaining(shape, (position - start) / length, (end - position) / length)
    return mix(target, value, left)

"""The curves that the schedules share.

A segment of a schedule goes from one value to another. Its progress is given by two shares, `done`
and `left`, each a quotient of exact numbers. Computing one as ``1 -`` the other would lose digits
near an end.
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
    """Interpolation from `low` at share 0 to `high` at share 1, exact at both and never outside.

    Rounding may lengthen ``high - low`` by half a unit in its last place. A share below 1 is at
    most ``1 - 2⁻⁵³``, which shortens it by as much, so no clamp is needed.
    """
    return high if share == 1.0 else low + (high - low) * share


def remaining(shape: Shape, done: float, left: float) -> float:
    """Height on a descent from 1 to 0.

    ``linear`` is ``left``, ``cosine`` is ``(1 + cos(π·done))/2``, and ``sqrt`` is ``1 - √done``,
    computed as ``left/(1 + √done)`` to avoid cancellation.
    """
    if shape == "linear":
        return left
    return half_cosine(done, left) if shape == "cosine" else left / (1.0 + math.sqrt(done))


def interpolate(knots: Sequence[tuple[float, float]], position: float, shape: Shape) -> float:
    """Value at `position` of the curve through `knots`, pairs of position and value.

    After the last knot the value is constant.
    """
    after = bisect_right(knots, (position, math.inf))
    if after == len(knots):
        return knots[-1][1]
    (start, value), (end, target) = knots[after - 1], knots[after]
    length = end - start
    left = remaining(shape, (position - start) / length, (end - position) / length)
    return mix(target, value, left)

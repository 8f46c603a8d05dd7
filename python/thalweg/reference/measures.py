"""Measures of a whole tensor that change its step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from thalweg.reference.norms import sum_of_squares
from thalweg.reference.terms import FLOORS, flush

if TYPE_CHECKING:
    from thalweg.reference.terms import Array

__all__ = ["cautious_change", "limited_rate"]


def cautious_change(change: Array, direction: Array, g: Array) -> Array:
    """The change of a cautious rule.

    It is zero where the direction of the step does not have the sign of the gradient. Elsewhere it
    is divided by the part of the elements where it does, or by 1e-3 if there are fewer.
    """
    agree = ((direction > 0.0) & (g > 0.0)) | ((direction < 0.0) & (g < 0.0))
    mean = float(np.count_nonzero(agree)) / g.size if g.size else 1.0
    real = change.dtype.type
    return np.where(agree, real(1.0 / max(mean, 1e-3)), real(0.0)) * change


def limited_rate(g: Array, root: Array, eps: float, limit: float) -> float:
    """Factor on the learning rate that limits the root mean square of ``g / max(root, eps)``."""
    if not limit or not g.size:
        return 1.0
    least = root.dtype.type(eps)
    x = flush(g, FLOORS[g.dtype].square) / np.where(root < least, least, root)
    excess = math.sqrt(sum_of_squares(x, 1.0) / x.size) / limit
    return 1.0 if excess <= 1.0 else 1.0 / excess

"""Arguments that only Python code takes; those of the optimizers are checked in the core."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

__all__ = ["check_count", "check_real"]


def check_real(name: str, value: Any) -> float:
    """`value` as a float.

    Raises
    ------
    TypeError
        If it is no real number; booleans are none.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")
    return float(value)


def check_count(name: str, value: Any) -> int:
    """`value` as an int.

    Raises
    ------
    TypeError
        If it is no whole number; booleans are none.
    ValueError
        If it is below 1.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        kind = type(value).__name__
        raise TypeError(f"{name} must be a whole number, got {value!r} of type {kind}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value!r}")
    return int(value)

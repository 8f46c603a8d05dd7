"""Arguments that only Python code takes; those of the optimizers are checked in the core."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

__all__ = ["check_real"]


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

"""Numbers that users give, as type checkers see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import SupportsFloat, SupportsIndex, TypeAlias

__all__ = ["Kept", "Number", "Real"]

Real: TypeAlias = SupportsFloat | SupportsIndex
"""A number of Python, NumPy or another library; NumPy's are no floats for a type checker."""

Number: TypeAlias = Real | Callable[[int], Real]
"""A hyperparameter: a number, or a callable of the 1-based step that returns one."""

Kept: TypeAlias = float | Callable[[int], Real]
"""A hyperparameter once it was checked."""

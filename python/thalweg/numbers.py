"""Types of the numbers and names that users pass, for type checkers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, SupportsFloat, SupportsIndex, TypeAlias

__all__ = ["Kept", "Number", "Real", "RowsMeaning", "StateFormat"]

Real: TypeAlias = SupportsFloat | SupportsIndex
"""A number of Python, NumPy or another library; type checkers do not accept all as `float`."""

Number: TypeAlias = Real | Callable[[int], Real]
"""A hyperparameter: a number, or a callable of the 1-based step that returns one."""

Kept: TypeAlias = float | Callable[[int], Real]
"""A hyperparameter after validation."""

StateFormat: TypeAlias = Literal["full", "bfloat16", "compact"]
"""A format of an optimizer's state."""

RowsMeaning: TypeAlias = Literal["lazy", "dense"]
"""The meaning of a gradient that has rows."""

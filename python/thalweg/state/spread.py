"""Arrays of saved state whose bytes are not in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

__all__ = ["Spread"]


@dataclass(frozen=True)
class Spread:
    """Stand-in for an array: its dtype and shape, and a way to its bytes."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    read: Callable[[int, int], bytes]
    """The bytes between two positions, in C order."""
    number: int = -1
    """Identifies the array among those of one call."""

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

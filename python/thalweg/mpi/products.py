"""Whether the ranks' libraries of linear algebra give the same bits."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["digest_of_products"]

SHAPES = ((7, 300, 10), (64, 785, 33), (256, 256, 256))
"""Rows, inner length and columns of products: of one sample, of a layer, and on several threads."""


def digest_of_products() -> str:
    """A digest of the bits of some products of matrices, in float32 and float64.

    They depend on the library, on the processor and on the library's number of threads.
    """
    digest = hashlib.sha256()
    for dtype in (np.float32, np.float64):
        for rows, inner, columns in SHAPES:
            left: NDArray[Any] = _matrix(rows, inner).astype(dtype)
            right: NDArray[Any] = _matrix(inner, columns).astype(dtype)
            digest.update((left @ right).tobytes())
            digest.update((left.T @ (left @ right)).tobytes())
    return digest.hexdigest()


def _matrix(rows: int, columns: int) -> NDArray[np.float64]:
    """Numbers between -1 and 1 without a pattern, by exact arithmetic."""
    counts = np.arange(rows * columns, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    words = (counts ^ (counts >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return ((words >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0).reshape(rows, columns)

"""Memory-mapped arrays in files of NumPy's format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.disk.writing import naming

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["LOCK", "make_array", "open_array"]

LOCK = ".state.lock"
"""Lock file in the directory, held by an optimizer that trains there or a call that makes files."""


def open_array(path: Path, what: str, like: Any) -> NDArray[Any]:
    """Map an existing file; ValueError unless it has the shape and dtype of `like`."""
    with naming(path):
        array = np.lib.format.open_memmap(path, mode="r+")
    if array.shape != tuple(like.shape) or array.dtype != np.dtype(like.dtype):
        raise ValueError(
            f"{path} must be {np.dtype(like.dtype)} {tuple(like.shape)}, as {what} is, got "
            f"{array.dtype} {array.shape}; use another directory, or remove the file"
        )
    return array


def make_array(path: Path, like: Any, *, copied: bool) -> None:
    """Make a file with the values of an array, or with zeros that take no disk space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape, dtype = tuple(like.shape), np.dtype(like.dtype)
    with naming(path):
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if copied:
            array[...] = like
        array.flush()

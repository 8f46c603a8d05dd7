"""Memory-mapped arrays in files of NumPy's format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from thalweg.disk.writing import naming

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["LOCK", "Kind", "make_array", "open_array"]

Kind: TypeAlias = "tuple[np.dtype[Any], tuple[int, ...]]"
"""Dtype and shape of an array."""

LOCK = ".state.lock"
"""Lock file in the directory, held by an optimizer that trains there or a call that makes files."""


def open_array(path: Path, what: str, kind: Kind) -> NDArray[Any]:
    """Map an existing file; ValueError unless it has this dtype and shape."""
    with naming(path):
        array = np.lib.format.open_memmap(path, mode="r+")
    dtype, shape = kind
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{path} must be {dtype} {shape}, as {what} is, got "
            f"{array.dtype} {array.shape}; use another directory, or remove the file"
        )
    return array


def make_array(path: Path, kind: Kind, values: Any = None) -> None:
    """Make a file with these values, or with zeros that take no disk space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dtype, shape = kind
    with naming(path):
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if values is not None:
            array[...] = values
        array.flush()

"""The file and the bytes that a memory-mapped array covers, for systems without a table of maps.

Two maps of one file have different addresses but the same bytes, so their addresses do not show
that they overlap. Where ``/proc/self/maps`` exists, the core reads that instead.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["file_place", "map_of", "memmap_below"]


def file_place(array: NDArray[Any]) -> tuple[int, int, int, bool] | None:
    """Device and inode of the file that `array` maps, file offset minus address, whether shared.

    None for an array that maps no file. A map of mode ``"c"`` is not shared: writes to it do not
    reach the file, but it shows writes to the file.
    """
    mapped = memmap_below(array)
    if mapped is None or mapped.filename is None:
        return None
    # NumPy keeps the requested offset; the operating system maps whole pages.
    page = mapped.offset - mapped.offset % mmap.ALLOCATIONGRANULARITY
    start_of_map = np.frombuffer(map_of(mapped), np.uint8).__array_interface__["data"][0]
    try:
        file = Path(mapped.filename).stat()
    except OSError:
        return None
    return file.st_dev, file.st_ino, page - start_of_map, mapped.mode != "c"


def memmap_below(array: Any) -> np.memmap[Any, Any] | None:
    """The memmap that `array` is or is a view of; None if there is none."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and getattr(array, "_mmap", None) is not None:
            return array
        array = array.base
    return None


def map_of(array: np.memmap[Any, Any]) -> mmap.mmap:
    """The `mmap` of an `np.memmap`, shared by all its views."""
    made: mmap.mmap = array._mmap  # type: ignore[attr-defined]  # noqa: SLF001 - NumPy has no public name for it, and its stubs none
    return made

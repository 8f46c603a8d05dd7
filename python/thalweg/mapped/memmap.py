"""Which bytes of which file a memory-mapped array covers, where the system has no table of it.

Two maps of one file have different addresses and the same bytes, so addresses do not tell that they
overlap. Where there is ``/proc/self/maps`` the core reads that instead.
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

    None for an array that maps no file. A map of mode ``"c"`` is not shared: nobody sees what is
    written to it. What is written to the file is seen in it.
    """
    mapped = memmap_below(array)
    if mapped is None or mapped.filename is None:
        return None
    # NumPy keeps the offset of the map that was made; the operating system maps whole pages.
    page = mapped.offset - mapped.offset % mmap.ALLOCATIONGRANULARITY
    start_of_map = np.frombuffer(map_of(mapped), np.uint8).__array_interface__["data"][0]
    try:
        file = Path(mapped.filename).stat()
    except OSError:
        return None
    return file.st_dev, file.st_ino, page - start_of_map, mapped.mode != "c"


def memmap_below(array: Any) -> np.memmap[Any, Any] | None:
    """The memmap that `array` is or views."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and getattr(array, "_mmap", None) is not None:
            return array
        array = array.base
    return None


def map_of(array: np.memmap[Any, Any]) -> mmap.mmap:
    """The map of an `np.memmap`, which all its views share."""
    made: mmap.mmap = array._mmap  # type: ignore[attr-defined]  # noqa: SLF001 - NumPy has no public name for it, and its stubs none
    return made

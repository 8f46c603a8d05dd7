"""The open optimizers whose arrays are files: search by array, and closing at exit."""

from __future__ import annotations

import atexit
import weakref
from bisect import bisect_right
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thalweg.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from thalweg import _core

__all__ = ["OPEN", "Owner", "owner_of"]


class Owner(Protocol):
    """The internals of an optimizer."""

    optimizer: Any
    """The public optimizer; a subclass may override `close`."""
    updater: _core.Updater

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameters by name."""

    @property
    def state(self) -> Mapping[str, Mapping[str, Any]]:
        """State arrays and step of each parameter."""

    def trained(self) -> dict[str, NDArray[Any]]:
        """The parameters that train."""


OPEN: weakref.WeakSet[Owner] = weakref.WeakSet()


def owner_of(arrays: Mapping[str, Any]) -> Owner | None:
    """The open optimizer that trains one of these arrays; None if there is none."""
    given = [_extent(array) for array in arrays.values() if isinstance(array, np.ndarray)]
    for owner in list(OPEN):
        trained = _merged(_extent(array) for array in owner.trained().values())
        ends = [end for _, end in trained]
        for start, end in given:
            at = bisect_right(ends, start)
            if start < end and at < len(ends) and trained[at][0] < end:
                return owner
    return None


def _merged(extents: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of extents as disjoint extents, sorted."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(extents):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        elif start < end:
            merged.append((start, end))
    return merged


def _extent(array: NDArray[Any]) -> tuple[int, int]:
    """Start and end address of an array; the end is exclusive."""
    start: int = array.__array_interface__["data"][0]
    if array.size == 0:
        return start, start
    steps = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    before, behind = (
        sum(step for step in steps if step < 0),
        sum(step for step in steps if step > 0),
    )
    return start + before, start + behind + array.itemsize


@atexit.register
def _close_all() -> None:
    with ExitStack() as closing:  # closes all of them, even if one raises
        for owner in list(OPEN):
            closing.callback(_close, owner)


def _close(owner: Owner) -> None:
    with suppress(BusyError):  # during a step; the record marks it as unfinished
        owner.optimizer.close()

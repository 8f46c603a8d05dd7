"""Messages: the shares of all ranks, laid out in a line of bytes and cut into chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["ALIGNED", "Bytes", "Layout", "Message", "Slice"]

ALIGNED = 64
"""Bytes to a multiple of which each piece of a line begins."""
DIRECT = 1 << 16
"""Bytes from which a share is sent from its array, without a copy."""


@dataclass(frozen=True)
class Slice:
    """Bytes `start` to `stop` of an array, at byte `at` of a message."""

    array: int
    start: int
    stop: int
    at: int

    @property
    def end(self) -> int:
        """Where it ends in the message."""
        return self.at + self.stop - self.start


@dataclass(frozen=True)
class Message:
    """Bytes of a line from `start` on."""

    start: int
    size: int
    slices: tuple[Slice, ...]


class Layout:
    """The messages that have the shares of each rank.

    Parameters
    ----------
    bounds : sequence of sequences of int
        For each array, the byte where the share of each rank begins, and its size at the end.
    chunk : int
        Bytes of a message at most; a multiple of 64.
    """

    def __init__(self, bounds: Sequence[Sequence[int]], chunk: int) -> None:
        ranks = len(bounds[0]) - 1 if bounds else 0
        self.messages = [
            _messages([(ends[rank], ends[rank + 1]) for ends in bounds], chunk)
            for rank in range(ranks)
        ]
        self.rounds = max(map(len, self.messages), default=0)

    def size(self, rank: int) -> int:
        """Bytes of the line that has the share of a rank."""
        messages = self.messages[rank] if self.messages else []
        return messages[-1].start + messages[-1].size if messages else 0

    def places(self, rank: int) -> dict[int, tuple[int, int]]:
        """Where the share of each array lies in the line of a rank: start and end."""
        found: dict[int, tuple[int, int]] = {}
        for message in self.messages[rank] if self.messages else []:
            for part in message.slices:
                start, _ = found.get(part.array, (message.start + part.at, 0))
                found[part.array] = start, message.start + part.end
        return found


def _messages(shares: Sequence[tuple[int, int]], chunk: int) -> list[Message]:
    """The messages of one rank. One with a part of a large share has nothing else."""
    messages: list[Message] = []
    begun: list[Slice] = []
    line = 0

    def end() -> None:
        nonlocal line, begun
        if begun:
            size = begun[-1].end
            messages.append(Message(line, size, tuple(begun)))
            # A large share goes on where it was cut, which is at a multiple too.
            line, begun = _up(line + size), []

    for array, (start, stop) in enumerate(shares):
        if stop - start >= min(DIRECT, chunk):
            end()
            for begin in range(start, stop, chunk):
                begun = [Slice(array, begin, min(begin + chunk, stop), 0)]
                end()
        elif stop > start:
            at = _up(begun[-1].end) if begun else 0
            if at + stop - start > chunk:
                end()
                at = 0
            begun.append(Slice(array, start, stop, at))
    end()
    return messages


def _up(place: int) -> int:
    """The next multiple of `ALIGNED`."""
    return -(-place // ALIGNED) * ALIGNED


class Bytes:
    """The bytes of an array in C order, whatever its strides."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self._size = array.itemsize
        contiguous = array.flags.c_contiguous
        self._flat = array.reshape(-1).view(np.uint8) if contiguous and array.size else None

    def view(self, part: Slice) -> NDArray[Any] | None:
        """The bytes themselves, if they lie in one piece."""
        return None if self._flat is None else self._flat[part.start : part.stop]

    def read(self, part: Slice, into: NDArray[Any]) -> None:
        """Copy bytes of the array to a message."""
        view, place = self.view(part), into[part.at : part.end]
        place[:] = self._elements(part).view(np.uint8) if view is None else view

    def write(self, part: Slice, source: NDArray[Any]) -> None:
        """Copy bytes of a message to the array."""
        view, place = self.view(part), source[part.at : part.end]
        if view is not None:
            view[:] = place
        else:
            start, stop = part.start // self._size, part.stop // self._size
            self.array.flat[start:stop] = place.view(self.array.dtype)

    def _elements(self, part: Slice) -> NDArray[Any]:
        return np.array(self.array.flat[part.start // self._size : part.stop // self._size])

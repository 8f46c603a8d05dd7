"""State that other ranks have, read by rank 0 piece by piece."""

from __future__ import annotations

import struct
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.compact.decoding import BASE, HISTORY
from thalweg.compact.encodings import BLOCK
from thalweg.mpi.layout import Bytes, Slice
from thalweg.mpi.transport import wait
from thalweg.state.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from thalweg.mpi.held import ShardedHeld
    from thalweg.mpi.meeting import Meeting

__all__ = ["PIECE", "Lent", "ends_of"]

PIECE = 1 << 20
"""Bytes of a message at most."""
REQUEST = struct.Struct("<qqqq")
"""Number of an array, first byte and end, and whether there is a request at all."""
NOTHING = np.empty(0, np.uint8)


class Lent:
    """The state that this rank has, for rank 0."""

    def __init__(self, held: ShardedHeld, saved: Mapping[str, Any], meeting: Meeting) -> None:
        self._meeting = meeting
        self._bounds = held.bounds
        self._transport = held.transport
        self._kinds = {name: held.whole_kinds(name) for name in saved["state"]}
        self.keys = [(name, key) for name, kinds in self._kinds.items() for key in kinds]
        # An empty share of a parameter may lack an array that others have.
        self._arrays = [Bytes(saved["state"][name].get(key, NOTHING)) for name, key in self.keys]
        self._piece = np.empty(PIECE, np.uint8)
        self._request = np.empty(REQUEST.size, np.uint8)

    def serve(self) -> None:
        """Send what rank 0 asks for, until it has all."""
        while True:
            wait([self._transport.irecv(self._request, 0)])
            number, start, stop, is_asked = REQUEST.unpack(self._request.tobytes())
            if not is_asked:
                return
            piece = self._piece[: stop - start]
            self._arrays[number].read(Slice(number, start, stop, 0), piece)
            wait([self._transport.isend(piece, 0)])

    def finish(self) -> None:
        """Tell all ranks that nothing more is asked for."""
        with self._meeting.apart():
            for rank in range(1, self._transport.size):
                self._ask(rank, 0, 0, 0, 0)

    def _ask(self, rank: int, *request: int) -> None:
        self._request[:] = np.frombuffer(REQUEST.pack(*request), np.uint8)
        wait([self._transport.isend(self._request, rank)])

    def whole(self, saved: Mapping[str, Any]) -> dict[str, Any]:
        """The state dict with stand-ins for the arrays that are shared out."""
        states = {}
        for name, leaf in saved["state"].items():
            beside = {
                key: value for key, value in leaf.items() if not isinstance(value, np.ndarray)
            }
            states[name] = {**dict.fromkeys(self._kinds[name]), **beside}
        for number, (name, key) in enumerate(self.keys):
            dtype, shape = self._kinds[name][key]
            ends = ends_of(self._bounds[name], key, dtype.itemsize)
            states[name][key] = (
                saved["state"][name][key]
                if ends is None
                else Spread(dtype, shape, partial(self._read, number, ends))
            )
        return {**saved, "state": states}

    def _read(self, number: int, ends: list[int], start: int, stop: int) -> bytes:
        return b"".join(self._pieces(number, ends, start, stop))

    def _pieces(self, number: int, ends: list[int], start: int, stop: int) -> Iterator[bytes]:
        for rank, (first, last) in enumerate(pairwise(ends)):
            low, high = max(start, first), min(stop, last)
            if low >= high:
                continue
            piece = self._piece[: high - low]
            if rank == 0:
                self._arrays[number].read(Slice(number, low - first, high - first, 0), piece)
            else:
                with self._meeting.apart():
                    self._ask(rank, number, low - first, high - first, 1)
                    wait([self._transport.irecv(piece, rank)])
            yield piece.tobytes()


def ends_of(bounds: Sequence[int], key: str, size: int) -> list[int] | None:
    """The byte of a state array where each rank's share begins, and the end.

    None for an array that every rank has. `bounds` are those of the parameter, in elements; `size`
    is that of an item.
    """
    if key == HISTORY:
        return None
    if key.endswith(BASE):
        return [-(-end // BLOCK) for end in bounds]
    return [end * size for end in bounds]

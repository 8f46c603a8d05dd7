"""Movement of gradients and parameters between ranks, in chunks, with bounded memory."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg import _core
from thalweg.averages.leaves import merges
from thalweg.mpi.layout import ALIGNED
from thalweg.mpi.transport import wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thalweg.averages.leaves import Span
    from thalweg.mpi.layout import Bytes, Layout, Message
    from thalweg.mpi.transport import Request, Transport

    Buffer = NDArray[np.uint8]

__all__ = ["Gradients", "Staging", "hand_round", "scatter"]

STAGING = 8 << 20
"""Bytes for messages, if chunks of a useful size fit."""
CHUNK, LEAST = 1 << 20, 1 << 14
"""Bytes of a message, at most: with few ranks, and with very many."""


class Staging:
    """Room for the messages of one round, one chunk each."""

    def __init__(self, transport: Transport, spans: Sequence[Sequence[Span]]) -> None:
        """`spans` has the parts of a sum that each rank has."""
        self.transport = transport
        mine = len(spans[transport.rank])
        received = sum(map(len, spans))
        sent = mine * (transport.size - 1)
        rooms = max(received + sent, transport.size)
        self.chunk = min(CHUNK, max(LEAST, STAGING // rooms // ALIGNED * ALIGNED))
        self.rooms = [aligned(self.chunk) for _ in range(rooms)]


def aligned(size: int) -> Buffer:
    """An array of bytes that begins at a multiple of 64; its content is arbitrary but finite."""
    room = np.zeros(size + ALIGNED, np.uint8)
    start = -room.ctypes.data % ALIGNED
    return room[start : start + size]


def direct(message: Message, arrays: Sequence[Bytes | None]) -> Buffer | None:
    """The bytes of a message in the array, if it is one piece of one."""
    first, *more = message.slices
    array = arrays[first.array]
    return None if more or array is None else array.view(first)


def packed(message: Message, arrays: Sequence[Bytes | None], room: Buffer) -> Buffer:
    """The bytes of a message: those of the array, or a copy in `room`."""
    view = direct(message, arrays)
    if view is not None:
        return view
    for part in message.slices:
        array = arrays[part.array]
        if array is not None:
            array.read(part, room)
    return room[: message.size]


def place_of(message: Message, arrays: Sequence[Bytes], room: Buffer) -> Buffer:
    """Where a message is received: in the array, or in `room`."""
    view = direct(message, arrays)
    return room[: message.size] if view is None else view


def unpack(message: Message, arrays: Sequence[Bytes], room: Buffer) -> None:
    """Write a message that was received, unless it is in the array already."""
    if direct(message, arrays) is None:
        for part in message.slices:
            arrays[part.array].write(part, room)


def scatter(staging: Staging, layout: Layout, arrays: Sequence[Bytes]) -> None:
    """Give each rank its share of the arrays of rank 0."""
    transport, rooms = staging.transport, staging.rooms
    rank, size = transport.rank, transport.size
    for number in range(layout.rounds):
        if rank > 0:
            for message in layout.messages[rank][number : number + 1]:
                place = place_of(message, arrays, rooms[0])
                wait([transport.irecv(place, 0)])
                unpack(message, arrays, rooms[0])
            continue
        sent = []
        for other in range(1, size):
            sent += [
                transport.isend(packed(message, arrays, rooms[other]), other)
                for message in layout.messages[other][number : number + 1]
            ]
        wait(sent)


def hand_round(staging: Staging, layout: Layout, arrays: Sequence[Bytes]) -> None:
    """Give all ranks the share of this one, and take theirs."""
    transport, rooms = staging.transport, staging.rooms
    rank, size = transport.rank, transport.size
    others = [other for other in range(size) if other != rank]
    for number in range(layout.rounds):
        requests, received = [], []
        for other in others:
            for message in layout.messages[other][number : number + 1]:
                place = place_of(message, arrays, rooms[other])
                requests.append(transport.irecv(place, other))
                received.append((message, rooms[other]))
        for message in layout.messages[rank][number : number + 1]:
            mine = packed(message, arrays, rooms[rank])
            requests += [transport.isend(mine, other) for other in others]
        wait(requests)
        for message, room in received:
            unpack(message, arrays, room)


class Gradients:
    """The sums of gradients of this rank's share.

    Parameters
    ----------
    staging : Staging
        Room for messages.
    spans : sequence of sequences of (int, int)
        The parts of the sum that each rank has.
    layout : Layout
        Of the gradients.
    dtypes : sequence of dtype
        Those of the gradients.
    """

    def __init__(
        self,
        staging: Staging,
        spans: Sequence[Sequence[Span]],
        layout: Layout,
        dtypes: Sequence[np.dtype[Any]],
    ) -> None:
        self.staging = staging
        self.layout = layout
        self.dtypes = dtypes
        self._owners = [rank for rank, parts in enumerate(spans) for _ in parts]
        self._merges = merges([span for parts in spans for span in parts])
        self._lefts = sorted({0, *(left for left, _ in self._merges)})
        rank = staging.transport.rank
        self._line = aligned(layout.size(rank))
        self._places = layout.places(rank)

    def of(self, array: int) -> NDArray[Any]:
        """The summed gradient of this rank's share of an array, flat."""
        start, stop = self._places.get(array, (0, 0))
        return self._line[start:stop].view(self.dtypes[array])

    def reduce(
        self, parts: Sequence[Sequence[Bytes | None]], present: Sequence[NDArray[np.bool_]]
    ) -> None:
        """Sum the parts of all ranks.

        Parameters
        ----------
        parts : sequence of sequences
            This rank's parts: the bytes of each array, or None if it is absent.
        present : sequence of arrays of bool
            For each part of any rank, whether it has each of the arrays.
        """
        rank = self.staging.transport.rank
        own = [q for q, owner in enumerate(self._owners) if owner == rank]
        for number in range(self.layout.rounds):
            rooms = list(self.staging.rooms[: len(self._owners)])
            messages = self.layout.messages[rank][number : number + 1]
            requests = [r for message in messages for r in self._receive(message, rooms, present)]
            requests += self._send(number, own, parts, present)
            for message in messages:
                for q, part in zip(own, parts, strict=True):
                    rooms[q] = packed(message, part, rooms[q])
            wait(requests)
            for message in messages:
                line = self._line[message.start : message.start + message.size]
                self._add(message, line, rooms, present)

    def _receive(
        self, message: Message, rooms: Sequence[Buffer], present: Sequence[NDArray[np.bool_]]
    ) -> list[Request]:
        """Begin to receive the parts of a message that other ranks have."""
        transport = self.staging.transport
        return [
            transport.irecv(rooms[q][: message.size], owner)
            for q, owner in enumerate(self._owners)
            if owner != transport.rank and has_any(message, present[q])
        ]

    def _send(
        self,
        number: int,
        own: Sequence[int],
        parts: Sequence[Sequence[Bytes | None]],
        present: Sequence[NDArray[np.bool_]],
    ) -> list[Request]:
        """Begin to send each other rank its message of this number, one for each own part."""
        transport, rooms = self.staging.transport, iter(self.staging.rooms[len(self._owners) :])
        requests = []
        for other in range(transport.size):
            if other == transport.rank:
                continue
            for q, part in zip(own, parts, strict=True):
                room = next(rooms)
                requests += [
                    transport.isend(packed(message, part, room), other)
                    for message in self.layout.messages[other][number : number + 1]
                    if has_any(message, present[q])
                ]
        return requests

    def _add(
        self,
        message: Message,
        line: Buffer,
        rooms: list[Buffer],
        present: Sequence[NDArray[np.bool_]],
    ) -> None:
        """Add the parts of a message in the order of the tree, and put the sum into `line`.

        A part is not written, since it may be the user's. The left side of an addition is copied
        first: to `line`, or to the room of the one before.
        """
        has = [[bool(one[part.array]) for part in message.slices] for one in present]
        free, sums = line, list(rooms)
        for left in self._lefts:
            self._sum(message, free, rooms[left], has[left], first=True)
            sums[left], free = free, self.staging.rooms[left]
        for left, right in self._merges:
            both = [a and b for a, b in zip(has[left], has[right], strict=True)]
            new = [b and not a for a, b in zip(has[left], has[right], strict=True)]
            self._sum(message, sums[left], sums[right], both, first=False)
            self._sum(message, sums[left], sums[right], new, first=True)
            has[left] = [a or b for a, b in zip(has[left], has[right], strict=True)]

    def _sum(
        self, message: Message, to: Buffer, source: Buffer, chosen: Sequence[bool], *, first: bool
    ) -> None:
        """Add the chosen slices of a message to another; or, `first`, replace them.

        It is the rule of sums itself, so that the bits are those of one process.
        """
        if not any(chosen):
            return
        p, g = [], []
        for (dtype, is_chosen), run in groupby(
            zip(message.slices, chosen, strict=True),
            key=lambda pair: (self.dtypes[pair[0].array], pair[1]),
        ):
            if is_chosen:
                slices = [part for part, _ in run]
                start, end = slices[0].at, slices[-1].end
                p.append(to[start:end].view(dtype))
                g.append(source[start:end].view(dtype))
        step = 1 if first else 2
        _core.apply("sum", p, g, (), step, {}, scale=1.0, nonfinite="ignore", threads=None)


def has_any(message: Message, present: NDArray[np.bool_]) -> bool:
    """Whether a part has any of the arrays of a message."""
    return any(present[part.array] for part in message.slices)

"""Arrays that rank 0 has, sent to the ranks that need them, piece by piece."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg import _core
from thalweg.mpi.layout import Bytes, Slice
from thalweg.mpi.lending import PIECE
from thalweg.mpi.transport import wait
from thalweg.state.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from thalweg.mpi.meeting import Meeting

    Buffer = NDArray[np.uint8]

__all__ = ["Delivery"]

FAILED = 1
"""First byte of a message in place of one that cannot be sent; else 0, before the content."""


class Delivery:
    """Sends what `sources` have, the arrays of rank 0; other ranks have none."""

    def __init__(self, meeting: Meeting, sources: Sequence[Any]) -> None:
        self._meeting = meeting
        self._transport = meeting.transport
        self._sources = sources
        self._message = np.empty(1 + PIECE, np.uint8)

    def parts(self, asked: Sequence[tuple[Spread, Sequence[int] | None]]) -> list[Buffer]:
        """Own bytes of each array, in the order of `asked`, which is the same on all ranks.

        With each array comes the byte where the part of each rank begins, and the end; None if
        every rank gets all of it.
        """
        size, rank = self._transport.size, self._transport.rank
        ranges = []
        for spread, ends in asked:
            whole = [(0, spread.nbytes)] * size
            ranges.append(whole if ends is None else list(pairwise(ends)))
        made = [np.empty(own[rank][1] - own[rank][0], np.uint8) for own in ranges]
        if rank == 0:
            self._send(asked, ranges, made)
            return made
        for (spread, _), own, part in zip(asked, ranges, made, strict=True):
            for start, stop in _pieces(spread.nbytes, own[rank]):
                message = self._message[: 1 + stop - start]
                with self._meeting.apart():
                    wait([self._transport.irecv(message, 0)])
                if message[0] == FAILED:
                    raise RuntimeError("rank 0 could not read the arrays")
                first = own[rank][0]
                part[start - first : stop - first] = message[1:]
        return made

    def _send(
        self,
        asked: Sequence[tuple[Spread, Any]],
        ranges: Sequence[Sequence[tuple[int, int]]],
        made: Sequence[Buffer],
    ) -> None:
        others = range(1, self._transport.size)
        left = {
            rank: sum(
                1
                for (spread, _), own in zip(asked, ranges, strict=True)
                for _ in _pieces(spread.nbytes, own[rank])
            )
            for rank in others
        }

        def send(rank: int, message: Buffer) -> None:
            left[rank] -= 1
            with self._meeting.apart():
                wait([self._transport.isend(message, rank)])

        try:
            for (spread, _), own, part in zip(asked, ranges, made, strict=True):
                self._send_one(spread, own, part, send)
        except BaseException:
            for rank in others:
                if left[rank] and not self._meeting.is_over:
                    send(rank, np.array([FAILED], np.uint8))
            raise

    def _send_one(
        self,
        spread: Spread,
        own: Sequence[tuple[int, int]],
        part: Buffer,
        send: Callable[[int, Buffer], None],
    ) -> None:
        """Send one array, and keep the part of rank 0."""

        def take(begin: int, piece: Buffer) -> None:
            for rank, (first, last) in enumerate(own):
                start, stop = max(begin, first), min(begin + len(piece), last)
                if start >= stop:
                    continue
                content = piece[start - begin : stop - begin]
                if rank == 0:
                    part[start - first : stop - first] = content
                else:
                    message = self._message[: 1 + stop - start]
                    message[0], message[1:] = 0, content
                    send(rank, message)

        _in_pieces(self._sources[spread.number], spread.nbytes, take)

    def whole(self, tree: Any) -> Any:
        """The same tree with the arrays in place of their stand-ins, on every rank."""
        found: list[Spread] = []
        _replaced(tree, found.append)
        arrays = {
            id(spread): part.view(spread.dtype).reshape(spread.shape)
            for spread, part in zip(found, self.parts([(s, None) for s in found]), strict=True)
        }
        return _replaced(tree, lambda spread: arrays[id(spread)])


def _pieces(size: int, own: tuple[int, int]) -> list[tuple[int, int]]:
    """The pieces of an array of `size` bytes, as far as they are in a range."""
    first, last = own
    if first >= last:
        return []
    begins = range(first // PIECE * PIECE, min(last, size), PIECE)
    return [(max(begin, first), min(begin + PIECE, last)) for begin in begins]


def _in_pieces(source: Any, size: int, take: Callable[[int, Buffer], None]) -> None:
    """Call `take` with all pieces of a source, an array or a tensor of a file."""
    room = np.empty(min(PIECE, size), np.uint8)
    if not isinstance(source, _core.Stored):
        array = Bytes(source)
        for begin in range(0, size, PIECE):
            piece = room[: min(PIECE, size - begin)]
            array.read(Slice(0, begin, begin + len(piece), 0), piece)
            take(begin, piece)
        return

    def gather(start: int, content: bytes) -> None:
        """Collect content of any length into pieces."""
        given, at = np.frombuffer(content, np.uint8), 0
        while at < len(given):
            inside = (start + at) % PIECE
            count = min(PIECE - inside, len(given) - at)
            room[inside : inside + count] = given[at : at + count]
            at += count
            end = start + at
            if end % PIECE == 0 or end == size:
                begin = (end - 1) // PIECE * PIECE
                take(begin, room[: end - begin])

    source.pieces(gather)


def _replaced(tree: Any, replace: Callable[[Spread], Any]) -> Any:
    if isinstance(tree, Spread):
        return replace(tree)
    if isinstance(tree, dict):
        return {key: _replaced(value, replace) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_replaced(value, replace) for value in tree)
    return tree

"""The memory limit: a step's reads and writes with next to no arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from thalweg import _core
from thalweg.cli.bench.stepper import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from thalweg.cli.bench.formulas import Array, Arrays
    from thalweg.cli.bench.stepper import Stepper

# Streams are of words of this type, whatever the arrays hold.
WORD = np.dtype(np.float32)
MOST_WRITTEN = 4


@dataclass(frozen=True)
class Traffic:
    """Bytes for each parameter: of arrays that are read and written, and of gradients."""

    written: float
    read: float

    @property
    def moved_bytes(self) -> float:
        """Bytes moved for each parameter."""
        return 2 * self.written + self.read

    @property
    def rows(self) -> int:
        """Arrays as large as the one that is read in which the written bytes fit best."""
        return min(max(round(self.written / self.read), 1), MOST_WRITTEN)

    def words(self, elements: int) -> int:
        """Return the words in each array of a stream that moves as many bytes."""
        moved = self.moved_bytes * elements
        return max(1, round(moved / ((2 * self.rows + 1) * WORD.itemsize)))


FLOAT32_ADAMW = Traffic(12, 4)
"""The traffic that every step is compared with, beside its own."""


def traffic(written: dict[str, list[Array]], grads: Arrays) -> Traffic:
    """Return the traffic of a step on these arrays."""
    elements = sum(g.size for g in grads.values())
    return Traffic(
        sum(array.nbytes for arrays in written.values() for array in arrays) / elements,
        sum(g.nbytes for g in grads.values()) / elements,
    )


def memory(traffics: Iterable[Traffic]) -> float:
    """Return the bytes that the streams occupy for each parameter."""
    traffics = list(traffics)
    moved = max(one.moved_bytes / (2 * one.rows + 1) for one in traffics)
    return moved * (1 + max(one.rows for one in traffics))


def build(traffics: Iterable[Traffic], elements: int) -> dict[Traffic, Step]:
    """Return a stream for each traffic; they share their arrays.

    The limit of many tensors is that of one tensor of their total size.
    """
    traffics = list(dict.fromkeys(traffics))
    words = max(one.words(elements) for one in traffics)
    arrays = [np.ones(words, WORD) for _ in range(1 + max(one.rows for one in traffics))]

    def stream(one: Traffic) -> Step:
        read, *written = (array[: one.words(elements)] for array in arrays[: 1 + one.rows])
        return Step(partial(_core.stream, written, read))

    return {one: stream(one) for one in traffics}


def of(stepper: Stepper, grads: Arrays) -> Step:
    """Return the limit on a parameter and its state in place; two exclusive ors change nothing.

    Memory is not equally fast everywhere: the same loop took up to a sixth longer on other arrays
    of one size. So a large step is compared with the limit of its own memory.
    """
    (name,) = grads

    def run() -> None:
        written = [_words(array) for array in stepper.written()[name]]
        pieces = list(_pieces(written, _words(grads[name])))
        for _ in range(2):
            for parts, read in pieces:
                _core.stream(parts, read)

    return Step(run, turns=2)


def _words(array: Array) -> Array:
    """Return the memory of an array as words, but for at most three bytes at its end."""
    flat = array.ravel("K").view(np.uint8)
    return flat[: flat.size // WORD.itemsize * WORD.itemsize].view(WORD)


def _pieces(written: list[Array], read: Array) -> Iterator[tuple[list[Array], Array]]:
    """Lay the written arrays end to end in rows as long as the read one, and cut at their ends."""
    ends = np.cumsum([array.size for array in written]).tolist()
    for start, stop in pairwise(sorted({0, read.size, *(end % read.size for end in ends)})):
        parts = []
        for array, end in zip(written, ends, strict=True):
            first = end - array.size
            rows = range(-((start - first) // read.size), (end - stop) // read.size + 1)
            begins = (row * read.size + start - first for row in rows)
            parts += [array[begin : begin + stop - start] for begin in begins]
        yield parts, read[start:stop]

"""The memory limit: the core's loop that reads and writes as a step does, and computes nothing."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thalweg._core import stream
from timing import Timed, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike


class Traffic(NamedTuple):
    """Arrays of one size and type that are updated, and that are read."""

    updated: int
    read: int = 1

    @property
    def passes(self) -> int:
        """How many arrays go over the bus; one that is updated does so twice."""
        return 2 * self.updated + self.read


def check_limit() -> None:
    """End the benchmark unless the loop reads and writes all that it is given."""
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(1_003) for _ in range(3))
    bits = [array.view(np.uint64) for array in (a, b, c)]
    expected = [bits[0] ^ bits[2], bits[1] ^ bits[2]]
    stream([a, b], c)
    if not np.array_equal(bits[:2], expected):
        sys.exit("the loop of the memory limit does not touch every array; nothing was timed")


class Limit:
    """Arrays of one size, of which each loop takes as many as it needs."""

    def __init__(self, elements: int, dtype: DTypeLike, updated: int) -> None:
        # Filled, because pages that were never written all read from the same one.
        self._read, *self._updated = (np.ones(elements, dtype) for _ in range(1 + updated))

    def of(self, updated: int) -> Timed:
        """Return the loop that updates so many arrays and reads one."""
        return Timed(partial(stream, self._updated[:updated], self._read))


def of_limit(traffic: Traffic, times: Sequence[float], limit: Sequence[float]) -> float:
    """Speed relative to the loop that updates as many arrays.

    The loop reads one array; where more are read, they count at the loop's bytes a second.
    """
    return ratio(limit, times) * traffic.passes / Traffic(traffic.updated).passes

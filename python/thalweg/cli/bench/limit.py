"""The memory limit: a step's reads and writes with next to no arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg import _core
from thalweg.cli.bench.stepper import Step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thalweg.cli.bench.formulas import Array, Arrays
    from thalweg.cli.bench.stepper import Stepper


@dataclass(frozen=True)
class Traffic:
    """Arrays that are read and written; one more, the gradient, is only read."""

    written: int
    dtype: np.dtype[Any]

    @property
    def moved_bytes(self) -> int:
        """Bytes moved for each parameter."""
        return (2 * self.written + 1) * self.dtype.itemsize


def memory(traffics: Iterable[Traffic]) -> int:
    """Return the bytes that the streams occupy for each parameter."""
    return sum(count * dtype.itemsize for dtype, count in _arrays(traffics).items())


def build(traffics: Iterable[Traffic], elements: int) -> dict[Traffic, Step]:
    """Return a stream for each traffic; those of one type share their arrays.

    The limit of many tensors is that of one tensor of their total size.
    """
    traffics = list(traffics)
    arrays = {
        dtype: [np.ones(elements, dtype) for _ in range(count)]
        for dtype, count in _arrays(traffics).items()
    }
    return {traffic: _stream(traffic, *arrays[traffic.dtype]) for traffic in traffics}


def of(stepper: Stepper, grads: Arrays) -> Step:
    """Return the limit on a parameter and its state in place; two exclusive ors change nothing.

    Memory is not equally fast everywhere: the same loop took up to a sixth longer on other arrays
    of one size. So a large step is compared with the limit of its own memory.
    """
    (name,) = grads

    def run() -> None:
        written = [stepper.parameters()[name], *stepper.state()[name]]
        for _ in range(2):
            _core.stream([array.ravel("K") for array in written], grads[name].ravel("K"))

    return Step(run, turns=2)


def _arrays(traffics: Iterable[Traffic]) -> dict[np.dtype[Any], int]:
    counts: dict[np.dtype[Any], int] = {}
    for traffic in traffics:
        counts[traffic.dtype] = max(counts.get(traffic.dtype, 0), traffic.written + 1)
    return counts


def _stream(traffic: Traffic, read: Array, *written: Array) -> Step:
    return Step(partial(_core.stream, written[: traffic.written], read))

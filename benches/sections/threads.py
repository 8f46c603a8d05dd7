"""From how many elements on a second thread pays.

Below `PARALLEL_MIN` of src/machine/threads.rs, or `PARALLEL_MIN_AWAKE` where helpers are awake, a
step stays on the calling thread and the ratio is 1; a number is right if the ratio leaves 1
downwards there. Steps that follow each other at once find the helper awake, once woken; a pause
sends it to sleep.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import thalweg
from subjects import ADAMW, filled, values
from tables import Table
from timing import Call, Timed, interleaved, ratio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sections import Options

TITLE = "nanoseconds a step of AdamW on one thread and on two"
TOTALS = [1 << exponent for exponent in range(13, 21)]
SMALL = 256
PAUSE_NS = 1_000_000
NOISE = values(2_048, "float64")
THREADS = (1, 2)


class Case(NamedTuple):
    """A model of so many elements, in tensors of one size, and what is between its steps."""

    total: int
    tensor: int
    pause: Call | None


def _pause() -> None:
    until = perf_counter_ns() + PAUSE_NS
    while perf_counter_ns() < until:
        np.sort(NOISE)


def _step(total: int, tensor: int) -> Call:
    count = total // tensor
    opt = ADAMW.make([filled(tensor, "float32") for _ in range(count)])
    return partial(opt.step, [filled(tensor, "float32", 0.01) for _ in range(count)])


def _settle(threads: int, step: Call, wake: Call) -> None:
    thalweg.set_num_threads(threads)
    step()
    wake()


def _timed(case: Case, wake: Call) -> dict[int, Timed]:
    step = _step(case.total, case.tensor)
    return {
        n: Timed(step, prepare=case.pause, settle=partial(_settle, n, step, wake)) for n in THREADS
    }


PAUSES: dict[str, Call | None] = {"at once": None, "after 1 ms": _pause}


@contextmanager
def _threads_kept() -> Iterator[None]:
    before = thalweg.get_num_threads()
    try:
        yield
    finally:
        thalweg.set_num_threads(before)


def _sweep(tensor: int | None, between: str, options: Options) -> None:
    form = "one tensor" if tensor is None else f"tensors of {tensor}"
    table = Table(f"{form}, {between}", "1 thread", "2 threads", "2 over 1")
    wake = _step(TOTALS[-1], TOTALS[-1])
    for total in options.pick(TOTALS, TOTALS[:2]):
        case = Case(total, tensor or total, PAUSES[between])
        one, two = interleaved(_timed(case, wake), options.rounds_or(15)).values()
        table.row(f"{total:,}", round(median(one)), round(median(two)), ratio(two, one))
    print()


def run(options: Options) -> None:
    """Measure each size on one thread and on two in turn."""
    with _threads_kept():
        for between in PAUSES:
            for tensor in (None, SMALL):
                _sweep(tensor, between, options)

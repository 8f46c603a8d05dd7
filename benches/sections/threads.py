"""The number of elements from which a second thread pays.

Below `PARALLEL_MIN` of src/machine/threads.rs, or `PARALLEL_MIN_AWAKE` where helpers are awake, a
step stays on the calling thread and the ratio is 1. A constant is right if the ratio falls below 1
from there on. Steps in direct succession find the helper awake once it was woken; a pause puts it
to sleep.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

import thalweg
from thalweg.cli.bench.cases import Case, draw_gradients, draw_parameters
from thalweg.cli.bench.contenders import BASELINE, CONTENDERS
from thalweg.cli.bench.display import print_table
from thalweg.cli.bench.rounds import race
from thalweg.cli.bench.stepper import Step
from thalweg.cli.bench.tables import format_time, three_digits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sections import Options

TITLE = "a step of AdamW on one thread and on two"
HEADINGS = ("elements", "1 thread", "2 threads", "2 over 1")
TOTALS = [1 << exponent for exponent in range(13, 21)]
SMALL = 256
PAUSE_SECONDS = 1e-3
SAMPLE_SECONDS = 1e-4
"""Short samples, because the pause before each step makes them much longer."""
NOISE = np.random.default_rng(0).standard_normal(2_048)
THREADS = (1, 2)


def _pause() -> None:
    until = perf_counter() + PAUSE_SECONDS
    while perf_counter() < until:
        np.sort(NOISE)


PAUSES: dict[str, Callable[[], None] | None] = {"at once": None, "after 1 ms": _pause}


def _step(total: int, tensor: int) -> Callable[[], Any]:
    case = Case("threads", "", ((tensor,),) * (total // tensor))
    stepper = CONTENDERS[BASELINE].build(draw_parameters(case))
    return stepper.bind(draw_gradients(case)).run


def _settle(threads: int, *steps: Callable[[], Any]) -> None:
    thalweg.set_num_threads(threads)
    for step in steps:
        step()


@contextmanager
def _threads_kept() -> Iterator[None]:
    before = thalweg.get_num_threads()
    try:
        yield
    finally:
        thalweg.set_num_threads(before)


def _sweep(tensor: int | None, between: str, options: Options) -> None:
    wake = _step(TOTALS[-1], TOTALS[-1])
    totals = options.pick(TOTALS, TOTALS[:2])
    steps = {}
    for total in totals:
        run = _step(total, tensor or total)
        for threads in THREADS:
            settle = partial(_settle, threads, run, wake)
            steps[total, threads] = Step(run, PAUSES[between], settle)
    times = race(steps, options.rounds_or(15), SAMPLE_SECONDS)
    cells = []
    for total in totals:
        one, two = (times[total, threads] for threads in THREADS)
        medians = format_time(one.median), format_time(two.median)
        cells.append((f"{total:,}", *medians, three_digits(two.ratio(one))))
    form = "one tensor" if tensor is None else f"tensors of {tensor}"
    print_table(f"{form}, {between}", HEADINGS, cells)


def run(options: Options) -> None:
    """Measure each size on one thread and on two in turn."""
    with _threads_kept():
        for between in PAUSES:
            for tensor in (None, SMALL):
                _sweep(tensor, between, options)

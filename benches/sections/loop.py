"""What a training loop does beside the update: statistics, sums of gradients, averages."""

from __future__ import annotations

import sys
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

import thalweg
from limit import Limit, Traffic, of_limit
from subjects import ADAMW, Array, filled, values
from tables import Table
from thalweg import reference
from timing import Timed, interleaved, ratio

if TYPE_CHECKING:
    from sections import Options

TITLE = "statistics, accumulation and averages of one large tensor"
ELEMENTS = 64 << 20

ADDS = Traffic(1)
"""A sum or an average is updated, a gradient or a parameter read."""


def _check(elements: int) -> None:
    """End the benchmark unless sum, average and statistics have the bits of the reference."""
    p, g = values(elements, np.float32), values(elements, np.float32, 0.01)
    acc, ema = thalweg.Accumulator(p), thalweg.EMA(p, 0.9)
    total, mean = np.zeros_like(p), p.copy()
    for step in (1, 2):
        acc.add(g, weight=3.0)
        total = reference.accumulate(total, g, 3.0, step)
        p *= 2
        ema.update()
        mean = reference.average(mean, p, step, 0.9, bias_correction=False)
    before = p.copy()
    stats = ADAMW.make(p).step(g, stats=True).stats
    norms = reference.tensor_stats(before, g, p)
    sums = acc.grads["0"]
    fits = [
        sums is not None and np.array_equal(sums, total),
        np.array_equal(ema.params, mean),
        stats is not None and stats["0"] == thalweg.TensorStats(*norms),
    ]
    if not all(fits):
        sys.exit("sum, average or statistics differ from the reference; nothing was timed")


def _statistics(p: Array, g: Array, rounds: int) -> None:
    table = Table(f"{p.size:,} float32", "ms", "with statistics", "ratio")
    for name, options in {
        "AdamW, default": {},
        "AdamW, ignore": {"nonfinite": "ignore"},
    }.items():
        opt = ADAMW.make(p, **options)
        timed = {stats: Timed(partial(opt.step, g, stats=stats)) for stats in (False, True)}
        times = interleaved(timed, rounds)
        plain, watched = (median(times[stats]) / 1e6 for stats in (False, True))
        table.row(name, plain, watched, ratio(times[True], times[False]))
    print()


def _passes(p: Array, g: Array, rounds: int) -> None:
    acc, ema = thalweg.Accumulator(p), thalweg.EMA(p, 0.999)
    acc.add(g)  # the first overwrites
    timed: dict[str, Timed] = {
        "Accumulator.add": Timed(partial(acc.add, g)),
        "EMA.update": Timed(ema.update),
        "limit": Limit(p.size, p.dtype, 1).of(1),
    }
    times = interleaved(timed, rounds)
    table = Table(f"{p.size:,} {p.dtype}", "ms", "GB/s", "of limit")
    for name in ("Accumulator.add", "EMA.update"):
        ns = median(times[name])
        speed = ADDS.passes * p.nbytes / ns
        table.row(name, ns / 1e6, speed, of_limit(ADDS, times[name], times["limit"]))
    print()


def run(options: Options) -> None:
    """Measure statistics against the same step without, passes against the memory limit."""
    _check(100_003)
    elements, rounds = options.elements or options.pick(ELEMENTS, 4_096), options.rounds_or(11)
    _statistics(filled(elements, np.float32), filled(elements, np.float32, 0.01), rounds)
    for dtype in (np.float32, np.float64):
        _passes(filled(elements, dtype), filled(elements, dtype, 0.01), rounds)

"""Times that can be compared: medians of samples that were taken in turn.

A shared machine changes its speed from one second to the next, so a ratio is only worth something
if its two sides were measured within the same instant, and more than once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from time import perf_counter_ns
from typing import TypeVar

Call = Callable[[], object]
Key = TypeVar("Key", bound=Hashable)

SAMPLE_NS = 100_000
"""What a sample takes at least: the clock and an interrupt are then small beside it."""


@dataclass
class Timed:
    """Something to be timed, in samples of many calls."""

    call: Call
    prepare: Call | None = None
    """Called before every call, outside the time."""
    settle: Call | None = None
    """Called before every sample, outside the time."""

    def sample(self) -> float:
        """Nanoseconds a call."""
        return self._spent(self.calls) / self.calls

    @cached_property
    def calls(self) -> int:
        """How many calls fill a sample."""
        calls = 1
        # Twice, because the first call of all, which is cold, may take as long as a sample.
        while min(self._spent(calls), self._spent(calls)) < SAMPLE_NS:
            calls *= 2
        return calls

    def _spent(self, calls: int) -> int:
        if self.settle is not None:
            self.settle()
        if self.prepare is not None:
            return sum(self._prepared(self.prepare) for _ in range(calls))
        call = self.call
        start = perf_counter_ns()
        for _ in range(calls):
            call()
        return perf_counter_ns() - start

    def _prepared(self, prepare: Call) -> int:
        prepare()
        start = perf_counter_ns()
        self.call()
        return perf_counter_ns() - start


def interleaved(timed: Mapping[Key, Timed], rounds: int) -> dict[Key, list[float]]:
    """Nanoseconds a call of each, one sample a round; every round begins with another one.

    A round before the first warms up and finds how many calls fill a sample.
    """
    keys = list(timed)
    samples: dict[Key, list[float]] = {key: [] for key in keys}
    for turn in range(1 + rounds):
        first = turn % len(keys)
        for key in [*keys[first:], *keys[:first]]:
            samples[key].append(timed[key].sample())
    return {key: taken[1:] for key, taken in samples.items()}


def ratio(times: Sequence[float], base: Sequence[float]) -> float:
    """Median over the rounds of ``time / base``."""
    return median(time / other for time, other in zip(times, base, strict=True))


def against(case: Timed, base: Timed, rounds: int) -> float:
    """Median of ``time / base``, where each time lies between two of the base."""
    bases = [base.sample()]
    cases = []
    for _ in range(rounds):
        cases.append(case.sample())
        bases.append(base.sample())
    around = [(before + after) / 2 for before, after in itertools.pairwise(bases)]
    return ratio(cases, around)

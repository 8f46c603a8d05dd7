"""The clock: rounds in which every contender takes its turn, so that a slow spell hits them all.

Times are compared within a round and the ratios' median is taken. What the rest of the machine does
to all of them then cancels, and what it does to one is outvoted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import repeat
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from thalweg.cli.bench.stepper import Step

Key = TypeVar("Key", bound="Hashable")

# A step shorter than this is taken once before the clock starts: the others have emptied the
# caches. In a longer one that makes no difference.
WARMED_SECONDS = 1e-2
FEWEST_SAMPLES = 3


@dataclass(frozen=True)
class Effort:
    """The effort for a case: a time, and rounds that are made whatever the time.

    A sample is a batch of steps at least `sample_seconds` long, so that clock, call and the first
    steps after another contender are lost in it. With 0 it is a single step, as it comes.
    """

    seconds: float
    fewest_rounds: int
    most_rounds: int
    sample_seconds: float = 1e-2

    @property
    def one_by_one(self) -> Effort:
        """The same with single steps, for a loop where other work precedes each of them."""
        return replace(self, sample_seconds=0.0)

    def limited(self, rounds: int | None) -> Effort:
        """Return the effort of exactly `rounds`, or this one if that is None."""
        return self if rounds is None else replace(self, fewest_rounds=rounds, most_rounds=rounds)


FULL, QUICK = Effort(30.0, 15, 51), Effort(0.15, 3, 11, sample_seconds=1e-3)


@dataclass
class Series:
    """Samples of one contender: seconds a step, by the number of the round."""

    steps: int
    seconds: dict[int, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.seconds.values())

    @property
    def best(self) -> float:
        """The shortest, when nothing else ran."""
        return min(self.seconds.values())

    def ratio(self, other: Series) -> float:
        """Return its time by the other's in the same round: the median over the rounds of both."""
        shared = self.seconds.keys() & other.seconds.keys()
        return median(self.seconds[number] / other.seconds[number] for number in shared)


@dataclass(frozen=True)
class Entry:
    """A step to be measured; in every round, however long it takes, if `always`."""

    step: Step
    always: bool


@dataclass(frozen=True)
class _Pace:
    """The steps of a sample, whether one more precedes it, and the seconds it takes."""

    steps: int
    warmed: bool
    seconds: float


class Measurement(Generic[Key]):
    """Interleaved rounds over the entries.

    Attributes
    ----------
    rounds : int
        Their number.
    samples : dict
        The number of samples of each entry, spread evenly over the rounds.
    """

    def __init__(self, entries: Mapping[Key, Entry], effort: Effort) -> None:
        self._entries = entries
        self._paces = {
            key: _pace(entry.step, effort.sample_seconds) for key, entry in entries.items()
        }
        share = effort.seconds / len(entries)
        affordable = {key: int(share / pace.seconds) for key, pace in self._paces.items()}
        slowest = min(affordable[key] for key, entry in entries.items() if entry.always)
        self.rounds = min(max(slowest, effort.fewest_rounds), effort.most_rounds)
        fewest = min(FEWEST_SAMPLES, self.rounds)
        self.samples = {
            key: self.rounds if entry.always else min(max(affordable[key], fewest), self.rounds)
            for key, entry in entries.items()
        }

    def run(self, after_sample: Callable[[], None]) -> dict[Key, Series]:
        """Take all samples."""
        series = {key: Series(pace.steps) for key, pace in self._paces.items()}
        generator = np.random.default_rng(0)
        keys = list(self._entries)
        for number in range(self.rounds):
            # In another order each time: no entry always follows the same one.
            for index in generator.permutation(len(keys)):
                key = keys[index]
                if self._joins(key, number):
                    series[key].seconds[number] = self._sample(key)
                    after_sample()
        return series

    def _joins(self, key: Key, number: int) -> bool:
        samples = self.samples[key]
        return (number + 1) * samples // self.rounds > number * samples // self.rounds

    def _sample(self, key: Key) -> float:
        step, pace = self._entries[key].step, self._paces[key]
        if pace.warmed:
            _time(step, 1)
        return _time(step, pace.steps) / (pace.steps * step.turns)


def race(
    steps: Mapping[Key, Step], rounds: int, sample_seconds: float = FULL.sample_seconds
) -> dict[Key, Series]:
    """Take a sample of every step in each round."""
    entries = {key: Entry(step, always=True) for key, step in steps.items()}
    effort = Effort(0.0, rounds, rounds, sample_seconds)
    return Measurement(entries, effort).run(lambda: None)


def _pace(step: Step, sample_seconds: float) -> _Pace:
    """Touch all memory, let it compile what it compiles at first, and time a step."""
    _time(step, 1)
    begun = perf_counter()
    seconds = _time(step, 1)
    if sample_seconds == 0.0:
        return _Pace(1, warmed=False, seconds=perf_counter() - begun)
    if seconds < WARMED_SECONDS:
        seconds = min(_time(step, 1) for _ in range(5))
    warmed = seconds < WARMED_SECONDS
    steps = max(1, math.ceil(sample_seconds / seconds))
    return _Pace(steps, warmed, (steps + warmed) * seconds)


def _time(step: Step, steps: int) -> float:
    """Return the seconds that `steps` runs take, without what settles or prepares them."""
    run, prepare = step.run, step.prepare
    if step.settle is not None:
        step.settle()
    if prepare is not None:
        return sum(_time_prepared(run, prepare) for _ in range(steps))
    begun = perf_counter()
    for _ in repeat(None, steps):
        run()
    return perf_counter() - begun


def _time_prepared(run: Callable[[], object], prepare: Callable[[], object]) -> float:
    prepare()
    begun = perf_counter()
    run()
    return perf_counter() - begun

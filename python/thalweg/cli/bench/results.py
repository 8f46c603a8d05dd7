"""The results of a run, and the same as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from thalweg.cli.bench.contenders import BASELINE, Contender
from thalweg.cli.bench.limit import FLOAT32_ADAMW, Traffic
from thalweg.cli.bench.rounds import Series

if TYPE_CHECKING:
    from thalweg.cli.bench.cases import Case
    from thalweg.cli.bench.check import Verdict


@dataclass(frozen=True)
class Own:
    """The memory limit on a contender's own arrays."""

    contender: Contender


Measured: TypeAlias = dict[Contender | Traffic | Own, Series]


@dataclass(frozen=True)
class Samples:
    """Samples of the contenders and of the memory limits, in rounds."""

    rounds: int
    taken: Measured
    traffics: dict[Contender, Traffic]

    @property
    def series(self) -> dict[Contender, Series]:
        """Samples of the contenders."""
        return {key: one for key, one in self.taken.items() if isinstance(key, Contender)}

    @property
    def limits(self) -> dict[Traffic, Series]:
        """Samples of the memory limits, not of those on a contender's own arrays."""
        return {key: one for key, one in self.taken.items() if isinstance(key, Traffic)}

    def limit(self, contender: Contender) -> Series:
        """Return the memory limit on the contender's own arrays, or else on others like them."""
        return self.taken.get(Own(contender)) or self.taken[self.traffics[contender]]

    def of_limit(self, contender: Contender) -> float:
        """Return its speed as a share of the memory limit: the median over the rounds."""
        return self.limit(contender).ratio(self.taken[contender])

    def best_of_limit(self, contender: Contender) -> float:
        """Return the same of the shortest times, wherever they fell."""
        return self.limit(contender).best / self.taken[contender].best

    def of_float32(self, contender: Contender) -> float:
        """Return its speed as a share of the memory limit of AdamW in float32."""
        return self.taken[FLOAT32_ADAMW].ratio(self.taken[contender])

    def of_baseline(self, contender: Contender) -> float | None:
        """Return its time over that of thalweg's default, if that was measured."""
        baseline = next((one for one in self.series if one.name == BASELINE), None)
        return self.taken[contender].ratio(self.taken[baseline]) if baseline else None

    def as_data(self) -> dict[str, Any]:
        """Return dicts, lists and numbers, every sample included."""
        return {
            "rounds": self.rounds,
            "limits": [
                {
                    "bytes_per_element": traffic.moved_bytes,
                    "bytes_only_read": traffic.read,
                    **_samples(series),
                }
                for traffic, series in self.limits.items()
            ],
            "contenders": {one.name: self._contender(one) for one in self.series},
        }

    def _contender(self, contender: Contender) -> dict[str, Any]:
        data = {
            "of_limit": self.of_limit(contender),
            "of_float32_limit": self.of_float32(contender),
            "best_of_limit": self.best_of_limit(contender),
            "of_baseline": self.of_baseline(contender),
            **_samples(self.taken[contender]),
        }
        if Own(contender) in self.taken:
            data["own_limit"] = _samples(self.taken[Own(contender)])
        return data


@dataclass(frozen=True)
class CaseResult:
    """A case: verdicts, samples of those that passed, reasons for those that were skipped."""

    case: Case
    checked: dict[Contender, Verdict]
    skipped: dict[Contender, str]
    loop: Samples
    """Of single steps, each after the work of a training loop."""
    repeated: Samples
    """Of steps that follow each other."""

    @property
    def failed(self) -> list[Contender]:
        """The contenders that failed the check and were not timed."""
        return [contender for contender, verdict in self.checked.items() if not verdict.passed]

    def as_data(self) -> dict[str, Any]:
        """Return dicts, lists and numbers, every sample included."""
        return {
            "name": self.case.name,
            "title": self.case.title,
            "tensors": len(self.case.shapes),
            "elements": self.case.elements,
            "contenders": [self._verdict(one, verdict) for one, verdict in self.checked.items()],
            "skipped": {one.name: reason for one, reason in self.skipped.items()},
            "loop": self.loop.as_data(),
            "repeated": self.repeated.as_data(),
        }

    def _verdict(self, contender: Contender, verdict: Verdict) -> dict[str, Any]:
        traffic = self.loop.traffics.get(contender, contender.traffic)
        return {
            "name": contender.name,
            "label": contender.label,
            "bytes_per_element": contender.moved_bytes(traffic),
            "limit_bytes_per_element": traffic.moved_bytes,
            "passed": verdict.passed,
            # NaN is no JSON.
            "deviation": verdict.deviation if math.isfinite(verdict.deviation) else None,
            "deviation_allowed": verdict.allowed,
            "error": verdict.error,
        }


def _samples(series: Series) -> dict[str, Any]:
    return {
        "median_seconds": series.median,
        "best_seconds": series.best,
        "steps_per_sample": series.steps,
        "sample_rounds": list(series.seconds),
        "sample_seconds": list(series.seconds.values()),
    }

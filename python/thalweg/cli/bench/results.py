"""The results of a run, and the same as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg.cli.bench.contenders import BASELINE
from thalweg.cli.bench.limit import Traffic

if TYPE_CHECKING:
    from thalweg.cli.bench.cases import Case
    from thalweg.cli.bench.check import Verdict
    from thalweg.cli.bench.contenders import Contender
    from thalweg.cli.bench.rounds import Series


@dataclass(frozen=True)
class Own:
    """The memory limit on a contender's own arrays."""

    contender: Contender


@dataclass(frozen=True)
class CaseResult:
    """A case: verdicts, samples of those that passed, reasons for those that were skipped."""

    case: Case
    rounds: int
    limits: dict[Traffic | Own, Series]
    checked: dict[Contender, Verdict]
    series: dict[Contender, Series]
    skipped: dict[Contender, str]

    @property
    def failed(self) -> list[Contender]:
        """The contenders that failed the check and were not timed."""
        return [contender for contender, verdict in self.checked.items() if not verdict.passed]

    def limit(self, contender: Contender) -> Series:
        """Return the memory limit on the contender's own arrays, or else on others like them."""
        return self.limits.get(Own(contender)) or self.limits[contender.traffic]

    def of_limit(self, contender: Contender) -> float:
        """Return its speed as a share of the memory limit: the median over the rounds."""
        return self.limit(contender).ratio(self.series[contender])

    def best_of_limit(self, contender: Contender) -> float:
        """Return the same of the shortest times, wherever they fell."""
        return self.limit(contender).best / self.series[contender].best

    def of_baseline(self, contender: Contender) -> float | None:
        """Return its time over that of thalweg's default, if that was measured."""
        baseline = next((one for one in self.series if one.name == BASELINE), None)
        return self.series[contender].ratio(self.series[baseline]) if baseline else None

    def bandwidth(self, contender: Contender) -> float:
        """Return the bytes a second that its own reads and writes come to."""
        return contender.moved_bytes * self.case.elements / self.series[contender].median

    def as_data(self) -> dict[str, Any]:
        """Return dicts, lists and numbers, every sample included."""
        return {
            "name": self.case.name,
            "title": self.case.title,
            "tensors": len(self.case.shapes),
            "elements": self.case.elements,
            "rounds": self.rounds,
            "limits": [
                {
                    "bytes_per_element": traffic.moved_bytes,
                    "dtype": traffic.dtype.name,
                    **_samples(series),
                }
                for traffic, series in self.limits.items()
                if isinstance(traffic, Traffic)
            ],
            "contenders": [self._contender(one) for one in self.checked],
            "skipped": {one.name: reason for one, reason in self.skipped.items()},
        }

    def _contender(self, contender: Contender) -> dict[str, Any]:
        verdict = self.checked[contender]
        data = {
            "name": contender.name,
            "label": contender.label,
            "bytes_per_element": contender.moved_bytes,
            "limit_bytes_per_element": contender.traffic.moved_bytes,
            "passed": verdict.passed,
            # NaN is no JSON.
            "deviation": verdict.deviation if math.isfinite(verdict.deviation) else None,
            "deviation_allowed": verdict.allowed,
            "error": verdict.error,
        }
        if contender in self.series:
            data |= {
                "of_limit": self.of_limit(contender),
                "best_of_limit": self.best_of_limit(contender),
                "of_baseline": self.of_baseline(contender),
                **_samples(self.series[contender]),
            }
        if Own(contender) in self.limits:
            data["own_limit"] = _samples(self.limits[Own(contender)])
        return data


def _samples(series: Series) -> dict[str, Any]:
    return {
        "median_seconds": series.median,
        "best_seconds": series.best,
        "steps_per_sample": series.steps,
        "sample_rounds": list(series.seconds),
        "sample_seconds": list(series.seconds.values()),
    }

"""The check of a contender's results, before its time counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.cli.bench import cases
from thalweg.cli.bench.formulas import LR, Arrays, Formula
from thalweg.cli.bench.loops import Reference

if TYPE_CHECKING:
    from thalweg.cli.bench.cases import Case
    from thalweg.cli.bench.contenders import Contender

STEPS = 3
# Of another implementation in float32: measured 3e-5 learning rates after three steps, where
# leaving out the decay makes 2e-3 and another convention for eps 0.7.
TOLERANCE = 2e-4 * LR
# Of state in 8 bits, the mean over parameters: measured 0.011 learning rates after three steps. A
# single one deviated by 0.6, where its second moment is small beside others of its block. The first
# step starts from zeros, which are exact, so the tolerance of float32 applies to it. The betas
# cancel there, so that small errors in them are not seen.
ROUNDED_TOLERANCE = 2e-2 * LR


@dataclass(frozen=True)
class Verdict:
    """The deviation from the reference in the worst step, or an error.

    It is the largest of any parameter, or the mean of all where an 8-bit optimizer has rounded.
    """

    deviation: float
    allowed: float
    error: str | None = None

    @property
    def passed(self) -> bool:
        """True if the contender may be timed; NaN as deviation does not pass."""
        return self.error is None and self.deviation <= self.allowed

    def __str__(self) -> str:
        if self.error is not None:
            return self.error
        return f"deviates from thalweg.reference by {self.deviation:.2g}, allowed {self.allowed:g}"


class Checker:
    """The check on a small copy of a case, with other gradients in every step."""

    def __init__(self, case: Case) -> None:
        small = case.small_copy()
        self._params = cases.draw_parameters(small)
        self._grads = [cases.draw_gradients(small, seed) for seed in range(STEPS)]
        # The trace of the reference is the same for most contenders.
        self._expected = cache(self._trace)

    def check(self, contender: Contender) -> Verdict:
        """Compare with `thalweg.reference`: exactly if it is ours."""
        allowed = [0.0 if contender.ours else TOLERANCE] * STEPS
        if contender.rounded:
            allowed[1:] = [ROUNDED_TOLERANCE] * (STEPS - 1)
        expected = self._expected(contender.rule, contender.dtype, contender.max_norm)
        try:
            deviations = self._deviations(contender, expected)
        except Exception as error:  # noqa: BLE001 - what one raises must not stop the others
            return Verdict(math.nan, max(allowed), f"{type(error).__name__}: {error}")
        # NaN is the worst.
        worst = int(np.argmax(np.subtract(deviations, allowed)))
        return Verdict(deviations[worst], allowed[worst])

    def _deviations(self, contender: Contender, expected: list[Arrays]) -> list[float]:
        stepper = contender.build(cases.convert(self._params, contender.dtype))
        deviations: list[float] = []
        for grads, wanted in zip(self._grads, expected, strict=True):
            step = stepper.bind(cases.convert(grads, contender.dtype))
            if step.prepare is not None:
                step.prepare()
            step.run()
            mean = contender.rounded and bool(deviations)
            deviations.append(_distance(stepper.parameters(), wanted, mean=mean))
        return deviations

    def _trace(self, rule: Formula, dtype: np.dtype[Any], max_norm: float | None) -> list[Arrays]:
        params = cases.numbers(cases.convert(self._params, dtype))
        stepper = Reference(params, rule, max_norm)
        trace = []
        for grads in self._grads:
            stepper.step(cases.numbers(cases.convert(grads, dtype)))
            trace.append(dict(stepper.parameters()))
        return trace


def _distance(found: Arrays, wanted: Arrays, *, mean: bool) -> float:
    distances = [
        np.abs(found[name].astype(np.float64) - array).ravel() for name, array in wanted.items()
    ]
    # NumPy's maximum, unlike Python's, is NaN if one of them is.
    return float((np.mean if mean else np.max)(np.concatenate(distances)))

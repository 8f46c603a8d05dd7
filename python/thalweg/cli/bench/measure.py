"""One case from shapes to samples: check all contenders, then let those that passed take turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from thalweg.cli.bench import cases, limit
from thalweg.cli.bench.check import Checker, Verdict
from thalweg.cli.bench.contenders import Contender
from thalweg.cli.bench.display import CaseProgress
from thalweg.cli.bench.limit import Traffic
from thalweg.cli.bench.results import CaseResult, Own
from thalweg.cli.bench.rounds import Effort, Entry, Measurement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thalweg.cli.bench.cases import Case

Entries: TypeAlias = dict[Contender | Traffic | Own, Entry]

# From here on arrays are in memory, not in caches that others take over.
OWN_MINIMUM = 2**22


def measure(
    case: Case,
    contenders: Sequence[Contender],
    effort: Effort,
    skipped: dict[Contender, str] | None = None,
) -> CaseResult:
    """Check and time the contenders in a case; `skipped` is only reported."""
    skipped = skipped or {}
    with CaseProgress(case.title) as progress:
        checked = _check(case, contenders, progress)
        passed = [contender for contender, verdict in checked.items() if verdict.passed]
        if not passed:
            return CaseResult(case, 0, {}, checked, {}, skipped)
        progress.note("warming up")
        measurement = Measurement(_entries(case, passed), effort)
        progress.expect(sum(measurement.samples.values()))
        samples = measurement.run(progress.advance)
    return CaseResult(
        case,
        measurement.rounds,
        {key: series for key, series in samples.items() if isinstance(key, (Traffic, Own))},
        checked,
        {key: series for key, series in samples.items() if isinstance(key, Contender)},
        skipped,
    )


def _check(
    case: Case, contenders: Sequence[Contender], progress: CaseProgress
) -> dict[Contender, Verdict]:
    checker = Checker(case)
    verdicts = {}
    for contender in contenders:
        progress.note(f"checking {contender.label}")
        verdicts[contender] = checker.check(contender)
    return verdicts


def _entries(case: Case, contenders: Sequence[Contender]) -> Entries:
    params = cases.draw_parameters(case)
    # Contenders of one type read the same gradients.
    grads = {
        dtype: cases.convert(cases.draw_gradients(case), dtype)
        for dtype in {contender.dtype for contender in contenders}
    }
    traffics = dict.fromkeys(contender.traffic for contender in contenders)
    entries: Entries = {
        traffic: Entry(stream, always=True)
        for traffic, stream in limit.build(traffics, case.elements).items()
    }
    for contender in contenders:
        stepper = contender.build(cases.convert(params, contender.dtype))
        step = stepper.bind(grads[contender.dtype])
        entries[contender] = Entry(step, contender.ours)
        if len(case.shapes) == 1 and case.elements >= OWN_MINIMUM:
            step.run()
            if stepper.state():
                own = limit.of(stepper, grads[contender.dtype])
                entries[Own(contender)] = Entry(own, always=False)
    return entries

"""One case from shapes to samples: check all contenders, then let those that passed take turns."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from thalweg.cli.bench import cases, limit
from thalweg.cli.bench.check import Checker, Verdict
from thalweg.cli.bench.contenders import Contender
from thalweg.cli.bench.display import CaseProgress
from thalweg.cli.bench.limit import Traffic
from thalweg.cli.bench.results import CaseResult, Own, Samples
from thalweg.cli.bench.rounds import Effort, Entry, Measurement
from thalweg.cli.bench.work import numpy_product

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thalweg.cli.bench.cases import Case
    from thalweg.cli.bench.formulas import Arrays
    from thalweg.cli.bench.stepper import Step, Stepper

Entries: TypeAlias = dict[Contender | Traffic | Own, Entry]

# From here on arrays are in memory, not in caches that others take over.
OWN_MINIMUM = 2**22


def measure(
    case: Case,
    contenders: Sequence[Contender],
    effort: Effort,
    skipped: dict[Contender, str] | None = None,
) -> CaseResult:
    """Check and time the contenders in a case, in a loop and repeated; `skipped` is reported."""
    with CaseProgress(case.title) as progress:
        checked = _check(case, contenders, progress)
        passed = [contender for contender, verdict in checked.items() if verdict.passed]
        if not passed:
            nothing = Samples(0, {}, {})
            return CaseResult(case, checked, skipped or {}, nothing, nothing)
        progress.note("warming up")
        repeated, traffics = _entries(case, passed)
        measurements = [
            Measurement(_in_a_loop(repeated), effort.one_by_one),
            Measurement(repeated, effort),
        ]
        progress.expect(sum(sum(one.samples.values()) for one in measurements))
        loop, alone = (
            Samples(one.rounds, one.run(progress.advance), traffics) for one in measurements
        )
    return CaseResult(case, checked, skipped or {}, loop, alone)


def _in_a_loop(entries: Entries) -> Entries:
    """Return the entries with the work of a training loop before each step."""
    makers = {key.work for key in entries if isinstance(key, Contender)} | {numpy_product}
    works = {make: make() for make in makers}

    def work(key: Contender | Traffic | Own) -> Callable[[], object]:
        contender = key.contender if isinstance(key, Own) else key
        return works[contender.work if isinstance(contender, Contender) else numpy_product]

    return {key: replace(one, step=one.step.after(work(key))) for key, one in entries.items()}


def _check(
    case: Case, contenders: Sequence[Contender], progress: CaseProgress
) -> dict[Contender, Verdict]:
    checker = Checker(case)
    verdicts = {}
    for contender in contenders:
        progress.note(f"checking {contender.label}")
        verdicts[contender] = checker.check(contender)
    return verdicts


def _entries(
    case: Case, contenders: Sequence[Contender]
) -> tuple[Entries, dict[Contender, Traffic]]:
    """Return what is timed, and the traffic of each contender."""
    params = cases.draw_parameters(case)
    # Contenders of one type read the same gradients.
    grads = {
        dtype: cases.convert(cases.draw_gradients(case), dtype)
        for dtype in {contender.dtype for contender in contenders}
    }
    entries: Entries = {}
    traffics = {}
    for contender in contenders:
        stepper = contender.build(cases.convert(params, contender.dtype))
        step = stepper.bind(grads[contender.dtype])
        entries[contender] = Entry(step, contender.ours)
        traffics[contender] = _traffic(contender, stepper, step, grads[contender.dtype])
        large = len(case.shapes) == 1 and case.elements >= OWN_MINIMUM
        if large and stepper.written():
            own = limit.of(stepper, grads[contender.dtype])
            entries[Own(contender)] = Entry(own, always=False)
    streams = limit.build([limit.FLOAT32_ADAMW, *traffics.values()], case.elements)
    limits = {traffic: Entry(stream, always=True) for traffic, stream in streams.items()}
    return limits | entries, traffics


def _traffic(contender: Contender, stepper: Stepper, step: Step, grads: Arrays) -> Traffic:
    """Return the traffic of its arrays; some exist only after a step."""
    if step.prepare is not None:
        step.prepare()
    step.run()
    written = stepper.written()
    return limit.traffic(written, grads) if written else contender.traffic

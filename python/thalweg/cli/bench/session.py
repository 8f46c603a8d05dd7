"""The benchmark from options to tables and files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import thalweg
from thalweg import machine
from thalweg.cli.bench import cases, display, figure, memory, tables
from thalweg.cli.bench.contenders import CONTENDERS, Contender
from thalweg.cli.bench.measure import measure
from thalweg.cli.bench.rounds import FULL, QUICK
from thalweg.cli.errors import CommandError
from thalweg.cli.output import check_writable, writing

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from thalweg.cli.bench.cases import Case
    from thalweg.cli.bench.results import CaseResult

ELEMENTS, QUICK_ELEMENTS = 64 * 2**20, 4 * 2**20
# Compiling a step for more takes longer than the rest of a quick run.
QUICK_TENSORS = 100


def run(arguments: argparse.Namespace) -> int:
    """Check, measure, print and save; return 1 if thalweg failed a check."""
    for path in filter(None, (arguments.json, arguments.markdown, arguments.plot)):
        check_writable(path)
    if arguments.threads is not None:
        thalweg.set_num_threads(arguments.threads)
    contenders, missing = _contenders(arguments)
    chosen = _cases(arguments, contenders)
    facts = machine.facts(_packages(contenders))
    display.print_setting(facts, missing)
    _explain_size(chosen, arguments)
    results = []
    for case in chosen:
        results.append(_measure(case, contenders, arguments))
        display.print_result(results[-1])
    print(display.LEGEND)
    _save(arguments, facts, results)
    return int(any(contender.ours for result in results for contender in result.failed))


def _contenders(arguments: argparse.Namespace) -> tuple[list[Contender], list[str]]:
    """Return the chosen contenders that are installed, and the packages of the others."""
    # In the order of the table, however they were chosen.
    chosen = [
        contender
        for name, contender in CONTENDERS.items()
        if name in (arguments.contenders or CONTENDERS)
    ]
    installed = [contender for contender in chosen if contender.is_installed]
    missing = _packages([contender for contender in chosen if not contender.is_installed])
    if not installed:
        raise CommandError(f"nothing to measure: {', '.join(missing)} not installed")
    return installed, missing


def _packages(contenders: list[Contender]) -> list[str]:
    names = (contender.package for contender in contenders if contender.package is not None)
    return list(dict.fromkeys(names))


def _cases(arguments: argparse.Namespace, contenders: list[Contender]) -> list[Case]:
    elements = arguments.elements
    if elements is None:
        elements = memory.fitting_elements(_wanted_elements(arguments), contenders)
    every = {"large": cases.large(elements), **cases.SMALLER}
    chosen = [case for name, case in every.items() if name in (arguments.cases or every)]
    for case in chosen:
        memory.check_fits(case.elements, contenders)
    return chosen


def _wanted_elements(arguments: argparse.Namespace) -> int:
    return QUICK_ELEMENTS if arguments.quick else ELEMENTS


def _explain_size(chosen: list[Case], arguments: argparse.Namespace) -> None:
    wanted = arguments.elements or _wanted_elements(arguments)
    for case in chosen:
        if case.name == "large" and case.elements < wanted:
            print(
                f"{case.title}, not {wanted:,}: they would need more than half of the available "
                "memory"
            )


def _measure(case: Case, contenders: list[Contender], arguments: argparse.Namespace) -> CaseResult:
    skipped = {}
    if arguments.quick and len(case.shapes) > QUICK_TENSORS:
        reason = f"compilation for more than {QUICK_TENSORS} tensors takes too long for --quick"
        skipped = {contender: reason for contender in contenders if contender.compiles}
    for contender in contenders:
        most = contender.most_shapes
        if most is not None and len(set(case.shapes)) > most:
            skipped[contender] = f"compilation for more than {most} shapes takes too long"
    present = [contender for contender in contenders if contender not in skipped]
    effort = QUICK if arguments.quick else FULL
    return measure(case, present, effort.limited(arguments.rounds), skipped)


def _save(
    arguments: argparse.Namespace, facts: Mapping[str, Any], results: list[CaseResult]
) -> None:
    if arguments.json is not None:
        data = {"format": 3, "machine": facts, "cases": [result.as_data() for result in results]}
        with writing(arguments.json):
            arguments.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if arguments.markdown is not None:
        with writing(arguments.markdown):
            arguments.markdown.write_text(tables.markdown(results), encoding="utf-8")
    if arguments.plot is not None:
        with writing(arguments.plot):
            figure.draw(results, facts).savefig(arguments.plot)

"""The study from options to findings, and on to files and a table in the terminal."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from thalweg import machine
from thalweg_study import data, display, report, shares, store, table
from thalweg_study.account import Account
from thalweg_study.claim import Setting
from thalweg_study.claims import CLAIMS
from thalweg_study.errors import StudyError
from thalweg_study.findings import Findings
from thalweg_study.lab import Lab, kept
from thalweg_study.ledger import Ledger
from thalweg_study.progress import Progressing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from thalweg_study.claim import Chapter, Claim
    from thalweg_study.store import Store
    from thalweg_study.task import Record, Task

INTERRUPTED = 130
DIRECTORIES = (table.DIRECTORY, "pictures")
TRAINED_ON = 300
"""Pictures, of which a usual run sees no more."""


@dataclass(frozen=True)
class Order:
    """The options of a study."""

    claims: tuple[str, ...]
    """Names, in the order of the report; all if there are none."""

    data: str
    thorough: bool
    jobs: int
    out: Path

    @property
    def command(self) -> str:
        """The command for the same numbers, which do not depend on the processes."""
        scale = "--full" if self.thorough else "--quick"
        options = [scale, "--data", self.data, "--out", str(self.out)]
        join = subprocess.list2cmdline if os.name == "nt" else shlex.join
        return join(["thalweg-study", *self.claims, *options])


def run(order: Order) -> int:
    """Study, show and write; return the exit code.

    Raises
    ------
    StudyError
        If the study cannot begin or continue. Finished runs are kept.
    """
    _check_writable(order.out)
    with store.opened(order.out) as runs:
        for text in runs.notices:
            display.notice(text)
        try:
            _run(order, runs)
        except KeyboardInterrupt:
            display.notice(f"interrupted; {kept(runs)}")
            return INTERRUPTED
    return 0


def _run(order: Order, runs: Store) -> None:
    begun = perf_counter()
    chosen = [CLAIMS[name] for name in order.claims or CLAIMS]
    ledger = Ledger()
    chapters, made = _study(chosen, order, runs, ledger)
    findings = Findings(
        order.command,
        chapters,
        _facts(order, ledger, made, perf_counter() - begun),
        shares.table(ledger),
    )
    with _writing(order.out, "; runs are kept"):
        tables = table.write(ledger, order.out, runs.kinds)
        verdicts = table.write_verdicts(chapters, order.out)
        page = report.write(findings, order.out)
    display.print_verdicts(chapters)
    display.say(f"the report:   {page}")
    display.say(f"the verdicts: {verdicts}")
    display.say(f"every run:    {', '.join(map(str, [*tables, runs.path]))}")


def _study(
    chosen: Sequence[Claim], order: Order, runs: Store, ledger: Ledger
) -> tuple[tuple[tuple[Claim, Chapter], ...], int]:
    """Return the chapters, and how many runs were made for them."""
    setting = Setting(order.data, order.thorough)
    account = Account({claim.NAME: claim.plan(setting) for claim in chosen}, runs)
    chapters = []
    with Progressing(account) as progress, Lab(runs, order.jobs, progress.notice) as lab:
        for claim in chosen:
            progress.begin(claim.NAME)

            def perform(tasks: Sequence[Task], name: str = claim.NAME) -> list[Record]:
                records = lab.perform(tasks)
                ledger.enter(name, tasks, records)
                return records

            chapters.append((claim, claim.study(setting, perform)))
    return tuple(chapters), lab.made


def _facts(order: Order, ledger: Ledger, made: int, seconds: float) -> tuple[tuple[str, str], ...]:
    facts = machine.facts(["scikit-learn"])
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    minutes, rest = divmod(round(seconds), 60)
    return (
        ("Data", _data(order.data)),
        ("Scale", "full" if order.thorough else "quick"),
        ("Runs", f"{len(ledger):,}, of which {len(ledger) - made:,} were found stored"),
        ("Time", f"{minutes} min {rest} s for the {made:,} others, pictures and judgement"),
        ("Processes", f"{order.jobs}, each with one thread"),
        ("Versions", versions),
        ("Machine", f"{facts['cpu']}, {facts['cores']} cores, {facts['system']}"),
        ("CPU level of thalweg", facts["cpu_level"]),
    )


def _data(name: str) -> str:
    split = data.load(name, TRAINED_ON, 0)
    height, width = split.test.pictures.shape[1:]
    parts = [len(part.labels) for part in (split.train, split.validation, split.test)]
    return (
        f"{name}: {sum(parts):,} pictures of {height} by {width} pixels, of which {parts[-1]:,} "
        "are for tests only"
    )


def _check_writable(out: Path) -> None:
    for directory in (out, *(out / name for name in DIRECTORIES)):
        if directory.exists() and not directory.is_dir():
            raise StudyError(
                f"{str(directory)!r} is no directory: move it away, or choose another with --out"
            )
        with _writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            # Permission bits do not tell everything (read-only mounts, full disks); trying does.
            tempfile.TemporaryFile(dir=directory).close()


@contextmanager
def _writing(out: Path, more: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or str(out)
        raise StudyError(f"cannot write {where!r}: {error.strerror}{more}") from error

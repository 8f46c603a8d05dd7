"""Every run, and every verdict, as a row of a CSV file, for those who want to look for themselves.

Runs of one kind have the same columns and share a file, whichever claims asked for them: settings,
then what was found as far as it is a scalar, then the claims. Curves are in the file of the store.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from thalweg_study.claim import Chapter, Claim
    from thalweg_study.ledger import Ledger, Run

DIRECTORY = "runs"
VERDICTS = "verdicts.csv"


def write(ledger: Ledger, directory: Path, kinds_before: Iterable[str]) -> list[Path]:
    """Write ``runs/<kind>.csv`` for every kind of run, and return the paths.

    The format is that of RFC 4180. Floats have all their digits, None is an empty cell. The files
    of kinds that an earlier study of the directory had and this one has not are removed.
    """
    kinds: dict[str, list[Run]] = defaultdict(list)
    for run in ledger:
        kinds[run.kind].append(run)
    paths = {kind: directory / DIRECTORY / f"{kind}.csv" for kind in {*kinds, *kinds_before}}
    for kind in paths.keys() - kinds:
        paths[kind].unlink(missing_ok=True)
    return [_write(runs, paths[kind]) for kind, runs in kinds.items()]


def write_verdicts(chapters: Iterable[tuple[Claim, Chapter]], directory: Path) -> Path:
    """Write ``verdicts.csv`` and return its path."""
    path = directory / VERDICTS
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("claim", "sentence", "outcome", "figures", "rule"))
        writer.writerows(
            (claim.NAME, verdict.sentence, verdict.outcome, verdict.figures, verdict.rule)
            for claim, chapter in chapters
            for verdict in chapter.verdicts
        )
    return path


def _write(runs: list[Run], path: Path) -> Path:
    rows = [_row(run) for run in runs]
    # Not every run of a kind need have found the same.
    columns = dict.fromkeys(name for row in rows for name in row)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _row(run: Run) -> dict[str, Any]:
    found = {
        f"{name}_found" if name in run.settings else name: value
        for name, value in run.scalars.items()
    }
    return {**run.settings, **found, "claims": " ".join(run.claims)}

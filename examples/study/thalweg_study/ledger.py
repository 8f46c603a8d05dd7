"""The runs of a study, each once, in the order in which claims asked for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thalweg_study.store import key_of, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thalweg_study.task import Record, Task


@dataclass(frozen=True)
class Run:
    """A run without its curves."""

    kind: str
    settings: dict[str, Any]
    scalars: dict[str, Any]
    claims: list[str]
    """Those that asked for it."""


@dataclass
class Ledger:
    """The runs, and the claims that asked for each."""

    _runs: dict[str, Run] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs.values())

    def enter(self, claim: str, tasks: Sequence[Task], records: Sequence[Record]) -> None:
        """Enter the records that a claim received."""
        for task, record in zip(tasks, records, strict=True):
            key = key_of(task)
            if key not in self._runs:
                scalars = {
                    name: value
                    for name, value in record.items()
                    if not isinstance(value, (dict, list))
                }
                self._runs[key] = Run(task.kind, settings_of(task), scalars, [])
            if claim not in self._runs[key].claims:
                self._runs[key].claims.append(claim)

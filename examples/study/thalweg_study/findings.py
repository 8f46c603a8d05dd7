"""Everything that a study found, as the report shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalweg_study.claim import Chapter, Claim, Table


@dataclass(frozen=True)
class Findings:
    """The claims that were studied, in order, with their chapters, and how it was done."""

    command: str
    """The command for the same numbers."""

    chapters: tuple[tuple[Claim, Chapter], ...]

    facts: tuple[tuple[str, str], ...]
    """Data, scale, runs, time, versions, machine: what it is and its value."""

    shares: Table | None
    """How long the optimizer takes against forward and backward; None if nothing was trained."""

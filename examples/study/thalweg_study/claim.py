"""Parts of a claim: a question, an experiment, pictures, and verdicts by stated rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from thalweg_study.task import Record, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Outcome = Literal["holds", "does not hold", "undecided"]
Perform: TypeAlias = Callable[[Sequence[Task]], list[Record]]
"""Performs tasks and returns their records in the same order."""


@dataclass(frozen=True)
class Setting:
    """Data and scale, which all claims share."""

    data: str
    """Name of the data set."""

    thorough: bool
    """Whether to take the time for many seeds and fine grids."""


@dataclass(frozen=True)
class Verdict:
    """The judgement on one sentence of a source, by a rule that was stated before."""

    sentence: str
    """The claim."""

    rule: str
    """When it is said to hold, when not to, and when the figures do not decide."""

    outcome: Outcome
    figures: str
    """The figures that the rule was applied to, with their uncertainty."""


@dataclass(frozen=True)
class Picture:
    """A picture with its caption and description."""

    name: str
    """The name of its files, without ending."""

    figure: Figure
    caption: str
    description: str
    """Its content, for readers who cannot see it."""


@dataclass(frozen=True)
class Table:
    """Figures in rows."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chapter:
    """The part of the report about one claim."""

    verdicts: tuple[Verdict, ...]
    pictures: tuple[Picture, ...]
    tables: tuple[Table, ...]
    method: str
    """How the experiment was done, in sentences, with all its settings."""


class Claim(Protocol):
    """The interface of a module in `claims`."""

    NAME: str
    """The name on the command line."""

    SUMMARY: str
    """A line of the command's help."""

    TITLE: str
    QUESTION: str
    """The question, in a sentence or two."""

    SOURCE: str
    """Authors and place of the claim."""

    def plan(self, setting: Setting, /) -> Sequence[Task]:
        """Return all tasks; those that depend on others' results stand in with the same cost."""

    def study(self, setting: Setting, perform: Perform, /) -> Chapter:
        """Ask the question: perform the tasks, judge, draw."""

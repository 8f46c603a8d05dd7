"""A task: one experiment with one seed, described by plain values and described completely.

Tasks with equal values give equal records, so a record that is stored need not be made again.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, TypeAlias

Record: TypeAlias = dict[str, Any]
"""Results of a task, as JSON can hold them. Scalars are columns of the table of all runs."""


class Task(Protocol):
    """A frozen dataclass of JSON scalars that can be run, stored and found again."""

    kind: ClassVar[str]
    """Name of the class of the task in the store."""

    @property
    def cost(self) -> float:
        """About how many seconds it takes, so that the time left can be told."""

    def perform(self) -> Record:
        """Run the experiment, in any process, and return what it found."""

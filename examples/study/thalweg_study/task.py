"""A task: one experiment with one seed, described by plain values and described completely.

Tasks with equal values give equal records, so a record that is stored need not be made again.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, TypeAlias

Record: TypeAlias = dict[str, Any]
"""What a task found: keys and what JSON can hold. Scalars are columns of the table of all runs."""


class Task(Protocol):
    """What a frozen dataclass of JSON scalars must offer to be run, stored and found again."""

    kind: ClassVar[str]
    """Tells the tasks of one class from those of another in what is stored."""

    @property
    def cost(self) -> float:
        """About how many seconds it takes, so that the time left can be told."""

    def perform(self) -> Record:
        """Run the experiment, in any process, and return what it found."""

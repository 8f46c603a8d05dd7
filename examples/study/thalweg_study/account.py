"""Progress of the work, by cost: plans may name stand-ins for tasks that are not known yet.

Work that the store spares does not count, so that the time left can be told from the pace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg_study.store import key_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thalweg_study.store import Store
    from thalweg_study.task import Task


class Account:
    """The work that is planned, in seconds of one process.

    Parameters
    ----------
    plans : mapping of str to sequence of task
        By claim, in the order of the study; what several claims plan is the first one's.
    store : Store
        Its tasks are no work.
    """

    def __init__(self, plans: Mapping[str, Sequence[Task]], store: Store) -> None:
        self._spared: set[str] = set()
        self._shares = dict.fromkeys(plans, 0.0)
        planned: set[str] = set()
        for claim, tasks in plans.items():
            for task in tasks:
                key = key_of(task)
                if task in store:
                    self._spared.add(key)
                elif key not in planned:
                    planned.add(key)
                    self._shares[claim] += task.cost
        self.total = sum(self._shares.values())
        self.done = 0.0
        self._end = 0.0

    def begin(self, claim: str) -> None:
        """Begin a claim; tasks that the last one planned and did not need are dropped."""
        self.done = self._end
        self._end = min(self.done + self._shares[claim], self.total)

    def count(self, task: Task) -> None:
        """Count a task that has a record now, or had one that only its stand-in did not know."""
        if key_of(task) not in self._spared:
            self.done = min(self.done + task.cost, self._end)

    def finish(self) -> None:
        """Count all work as done."""
        self.done = self.total

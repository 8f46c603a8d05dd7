"""Where tasks are performed: each once, side by side, and kept as soon as it is finished."""

from __future__ import annotations

from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Protocol

from thalweg_study.errors import StudyError
from thalweg_study.pool import Outcome, Pool
from thalweg_study.store import key_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from thalweg_study.store import Store
    from thalweg_study.task import Record, Task

CHUNK_SECONDS = 0.5
"""Work in one piece: with more, an interruption would lose more; with less, processes would wait
for the next piece."""

PIECES = 4
"""Least pieces per process, so that all finish at about the same time."""


class Watch(Protocol):
    """A function that is told which tasks have a record."""

    def __call__(self, task: Task, /, *, made: bool) -> None:
        """Be told, once a task, that it was made or found in the store."""


class TaskError(Exception):
    """The traceback of a task that failed in another process."""


class Lab:
    """A context in which tasks are performed; its processes end with it.

    Parameters
    ----------
    store : Store
        Runs in it are not made again.
    jobs : int
        Processes. Records do not depend on it.
    watch : callable
        Told of every task once.
    """

    def __init__(self, store: Store, jobs: int, watch: Watch) -> None:
        self._store = store
        self._jobs = jobs
        self._watch = watch
        self._seen: set[str] = set()
        self._pool: Pool | None = None
        self.made = 0
        """How many runs were made here, not found in the store."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.close() if kind is None else self._pool.stop()

    def perform(self, tasks: Sequence[Task]) -> list[Record]:
        """Return the records of tasks, in their order.

        Raises
        ------
        StudyError
            If a task fails, a process dies, or records cannot be stored. Finished runs are kept.
        """
        unique = {key_of(task): task for task in tasks}
        missing = [task for task in unique.values() if task not in self._store]
        for key, task in unique.items():
            if task in self._store:
                self._notice(key, task, made=False)
        if missing:
            self._make(missing)
        return [self._store[task] for task in tasks]

    def _make(self, tasks: list[Task]) -> None:
        if self._pool is None:
            self._pool = Pool(self._jobs)
        pool = self._pool
        try:
            futures = {pool.submit(chunk): chunk for chunk in _chunks(tasks, self._jobs)}
        except BrokenProcessPool as error:
            raise self._died() from error
        for future in as_completed(futures):
            problem = self._keep(futures.pop(future), future)
            if problem is None:
                continue
            for other, chunk in futures.items():
                if other.done():
                    self._keep(chunk, other)
            raise problem

    def _keep(self, tasks: Sequence[Task], future: Future[Outcome]) -> StudyError | None:
        """Store the finished ones of some tasks, and return the failure, if any."""
        try:
            outcome = future.result()
        except BrokenProcessPool as error:
            return _caused(self._died(), error)
        finished = list(zip(tasks, outcome.records, strict=False))
        self._store.add(finished)
        self.made += len(finished)
        for task, _ in finished:
            self._notice(key_of(task), task, made=True)
        if outcome.failure is None:
            return None
        failed = tasks[len(finished)]
        message = f"the run {failed!r} failed: {outcome.failure.error}; {self._kept()}"
        return _caused(StudyError(message), TaskError(outcome.failure.traceback))

    def _notice(self, key: str, task: Task, *, made: bool) -> None:
        if key not in self._seen:
            self._seen.add(key)
            self._watch(task, made=made)

    def _died(self) -> StudyError:
        return StudyError(
            "a process that performed runs has died; it was killed, or there was not enough "
            f"memory, of which fewer --jobs need less; {self._kept()}"
        )

    def _kept(self) -> str:
        return kept(self._store)


def kept(store: Store) -> str:
    """Say that finished runs are kept, and where."""
    runs = "1 finished run is" if len(store) == 1 else f"{len(store):,} finished runs are"
    return f"{runs} kept in {str(store.path)!r}, and the same command continues from there"


def _chunks(tasks: list[Task], jobs: int) -> Iterator[tuple[Task, ...]]:
    """Divide tasks, longest first, since at the end processes should wait for short ones only."""
    most = min(CHUNK_SECONDS, sum(task.cost for task in tasks) / (PIECES * jobs))
    chunk: list[Task] = []
    cost = 0.0
    for task in sorted(tasks, key=lambda task: -task.cost):
        if chunk and cost + task.cost > most:
            yield tuple(chunk)
            chunk, cost = [], 0.0
        chunk.append(task)
        cost += task.cost
    yield tuple(chunk)


def _caused(error: StudyError, cause: BaseException) -> StudyError:
    error.__cause__ = cause
    return error

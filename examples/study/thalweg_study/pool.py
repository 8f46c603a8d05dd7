"""Processes that perform tasks, each on one core, all alike, so that numbers do not depend on them.

They are started anew rather than forked, with one thread for every library that takes more if it
is let. They end when this process closes the pipe to them, which it also does by dying.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

import thalweg

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

    from thalweg_study.task import Task

MOST = 61 if sys.platform == "win32" else 4096
"""Most processes that the system lets one wait for."""

ONE_THREAD = dict.fromkeys(
    (
        "BLIS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "THALWEG_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ),
    "1",
)
"""Read by libraries when they are loaded."""


@dataclass(frozen=True)
class Failure:
    """The exception of a task."""

    error: str
    """In a line, with where."""

    traceback: str


@dataclass(frozen=True)
class Outcome:
    """Records of the tasks that finished, as JSON, and the failure of the next, if any."""

    records: tuple[str, ...]
    failure: Failure | None = None


class Pool:
    """At most ``jobs`` processes; they start with the first tasks."""

    def __init__(self, jobs: int) -> None:
        context = multiprocessing.get_context("spawn")
        # Only this process can write to it, and does not: the others read its end.
        self._reading, self._lifeline = context.Pipe(duplex=False)
        self._executor = ProcessPoolExecutor(
            min(jobs, MOST), context, initializer=_prepare, initargs=(self._reading,)
        )

    def submit(self, tasks: Sequence[Task]) -> Future[Outcome]:
        """Have tasks performed one after the other by one of the processes."""
        with _setting_of_workers():
            return self._executor.submit(perform, tasks)

    def close(self) -> None:
        """Wait for running tasks, and end all processes."""
        self._executor.shutdown()
        self._lifeline.close()
        self._reading.close()

    def stop(self) -> None:
        """End all processes at once, also those with a task."""
        self._lifeline.close()
        self._executor.shutdown(cancel_futures=True)
        self._reading.close()


def perform(tasks: Sequence[Task]) -> Outcome:
    """Perform tasks until one fails."""
    records: list[str] = []
    try:
        for task in tasks:
            record = task.perform()
            records.append(json.dumps(record, allow_nan=False))
    except Exception as error:  # noqa: BLE001 - the parent reports any failure of a task
        return Outcome(tuple(records), _failure(error))
    return Outcome(tuple(records))


def _failure(error: Exception) -> Failure:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}, line {frame.lineno}"
    return Failure(f"{type(error).__name__}: {error} ({where})", traceback.format_exc())


@contextmanager
def _setting_of_workers() -> Iterator[None]:
    """Let processes that start meanwhile inherit single threads and ignore Ctrl-C.

    The terminal sends that to all; a worker that is still importing would show a traceback.
    """
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        with _interrupts_later():
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_later() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare(lifeline: Connection) -> None:
    """Make a new process what `Pool` promises."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    threadpool_limits(1)
    thalweg.set_num_threads(1)


def _end_with(lifeline: Connection) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)

"""Work in a thread, whose error is kept for whoever asks and told if nobody does."""

from __future__ import annotations

import atexit
import os
import threading
import traceback
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Task", "report"]


class Task:
    """A call in a thread of its own, which the interpreter waits for when it exits.

    Parameters
    ----------
    name : str
        What the thread is called, where its error is told because nobody asked.
    work : callable
        Called without arguments; what it returns is dropped.
    """

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self._process = os.getpid()
        self._asked = False
        self._future: Future[None] = Future()
        self._work: Callable[[], object] | None = work
        # The thread holds the task, so that an error is told even if nobody else does.
        self._thread = threading.Thread(target=self._run, name=name, daemon=False)
        TASKS.add(self)

    def start(self) -> None:
        """Start it."""
        self._thread.start()

    def cancel(self) -> None:
        """See to it that it never begins, if it has not yet."""
        self._future.cancel()

    def _run(self) -> None:
        work, self._work = self._work, None
        if work is None or not self._future.set_running_or_notify_cancel():
            return
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised where it is asked for
            # Its frames would keep copies of arrays as long as it is kept, and this one the task.
            traceback.clear_frames(error.__traceback__)
            self._future.set_exception(error)
            del self, work
        else:
            self._future.set_result(None)

    def is_here(self) -> bool:
        """False in a forked child, where the thread is not."""
        return self._process == os.getpid()

    def is_done(self) -> bool:
        """Whether it has ended, or will not begin."""
        return self._future.done()

    def ask(self) -> None:
        """Raise the error of what is done, with the thread's traceback."""
        self._asked = True
        if not self._future.cancelled():
            self._future.result()

    def failed(self) -> bool:
        """Wait until it is done; whether it has raised, or never began.

        An interrupt ends the waiting and not the work.
        """
        return self._future.cancelled() or self._future.exception() is not None

    def tell(self) -> None:
        """Tell an error that nobody has asked for."""
        if self._asked or not self.is_here() or not self.is_done() or self._future.cancelled():
            return
        self._asked = True
        error = self._future.exception()
        if error is not None:
            report(error, self._thread)

    def __del__(self) -> None:
        self.tell()


TASKS: weakref.WeakSet[Task] = weakref.WeakSet()


def report(error: BaseException, thread: threading.Thread) -> None:
    """Tell an error that cannot be raised, as Python does that of a thread."""
    args = (type(error), error, error.__traceback__, thread)
    threading.excepthook(threading.ExceptHookArgs(args))


@atexit.register
def _tell_all() -> None:
    """At exit, when all threads have ended."""
    for task in list(TASKS):
        task.tell()

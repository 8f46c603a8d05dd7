"""Work in a thread. Its error is raised on request, or reported if no caller asks for it."""

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
    """A call in a new thread. The interpreter waits for it at exit.

    Parameters
    ----------
    name : str
        Name of the thread, shown in the report of an error.
    work : callable
        Called without arguments; its result is dropped.
    """

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self._process = os.getpid()
        self._asked = False
        self._future: Future[None] = Future()
        self._work: Callable[[], object] | None = work
        # The thread holds the task, so that an error is reported without another reference to it.
        self._thread = threading.Thread(target=self._run, name=name, daemon=False)
        TASKS.add(self)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def cancel(self) -> None:
        """Prevent the start of work that has not begun."""
        self._future.cancel()

    def _run(self) -> None:
        work, self._work = self._work, None
        if work is None or not self._future.set_running_or_notify_cancel():
            return
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised where it is asked for
            # The frames of a kept error would keep copies of arrays, and this frame the task.
            traceback.clear_frames(error.__traceback__)
            self._future.set_exception(error)
            del self, work
        else:
            self._future.set_result(None)

    def is_here(self) -> bool:
        """False in a forked child, which does not have the thread."""
        return self._process == os.getpid()

    def is_done(self) -> bool:
        """Whether the work has ended or was cancelled."""
        return self._future.done()

    def ask(self) -> None:
        """Raise the error of the work, with the thread's traceback."""
        self._asked = True
        if not self._future.cancelled():
            self._future.result()

    def failed(self) -> bool:
        """Wait for the work. True if it raised or was cancelled.

        An interrupt ends the wait but not the work.
        """
        return self._future.cancelled() or self._future.exception() is not None

    def tell(self) -> None:
        """Report an error that no caller has asked for."""
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
    """Report an error that cannot be raised, as Python reports the error of a thread."""
    args = (type(error), error, error.__traceback__, thread)
    threading.excepthook(threading.ExceptHookArgs(args))


@atexit.register
def _tell_all() -> None:
    """Report at exit, after all threads have ended."""
    for task in list(TASKS):
        task.tell()

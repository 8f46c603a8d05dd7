"""Many checkpoints in one directory: which to save, which to keep, which to go on from."""

from __future__ import annotations

import errno
import os
import threading
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from thalweg import _core
from thalweg.attributes import Fixed, from_the_start
from thalweg.checkpoint import directory as directories
from thalweg.checkpoint import files
from thalweg.checkpoint.background import Task, report
from thalweg.disk.writing import make_directory
from thalweg.errors import check_flag, itemized
from thalweg.state.held import held_by

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from typing_extensions import Self

    from thalweg._core import Optimizer
    from thalweg.state.held import Held
    from thalweg.state.report import LoadReport

__all__ = ["CheckpointManager"]


class CheckpointManager(Fixed):
    """Checkpoints of one run in a directory: saves, keeps the newest, goes on from the latest.

    A file is called ``checkpoint-<number>-step-<step count>.safetensors``. The number grows with
    every save, whatever the step count does, so the latest is the one that was saved last. Other
    files in the directory are never touched.

    Parameters
    ----------
    directory : str or path
        Where they are. It is made by the first save if it is missing.
    keep : int or None, default 3
        How many stay, at least 1; None keeps all. Older ones are removed when the new one is safely
        on disk.
    every : int, optional
        Steps between the saves of `save_if_due`, at least 1.
    background : bool, default False
        True lets `save` copy everything and return; a thread then writes the copy. It takes as much
        memory as the file, until it is written.

    Raises
    ------
    TypeError, ValueError
        If `keep` or `every` is no whole number of at least 1, or `background` no boolean.

    See Also
    --------
    Optimizer.save, Optimizer.load : One file.

    Notes
    -----
    From its first save until `close` or until it is collected a manager holds a lock on the
    directory: a save of any other one there is a `BusyError`. The lock of a process that has ended,
    however it has, is void. Reading needs no lock.

    After a fork the parent keeps the lock, and the child has a manager without one. Threads that
    share a manager wait for each other.

    Examples
    --------
    >>> import numpy as np, os, tempfile, thalweg
    >>> directory = os.path.join(tempfile.mkdtemp(), "checkpoints")
    >>> opt = thalweg.AdamW({"w": np.ones(2)})
    >>> with thalweg.CheckpointManager(directory, keep=2, every=10) as manager:
    ...     while opt.step_count < 40:
    ...         report = opt.step({"w": np.ones(2)})
    ...         path = manager.save_if_due(opt, extra={"epoch": 1})
    >>> path.name
    'checkpoint-00000004-step-40.safetensors'
    >>> [step for step, path in manager.checkpoints()]
    [30, 40]
    >>> again = thalweg.AdamW({"w": np.ones(2)})
    >>> report = thalweg.CheckpointManager(directory).restore(again)
    >>> report.step, report.extra
    (40, {'epoch': 1})
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        keep: int | None = 3,
        every: int | None = None,
        *,
        background: bool = False,
    ) -> None:
        # A thread writes whatever the working directory has become by then.
        self._directory = Path(os.path.abspath(os.fspath(directory)))  # noqa: PTH100 - keeps links
        self._keep = None if keep is None else _core.check_whole("keep", keep, 1)
        self._every = None if every is None else _core.check_whole("every", every, 1)
        check_flag("background", background)
        self._background = background
        self._number = 0  # of the newest that this manager has begun to save
        self._last = self._before = 0  # step counts that `every` counts from
        self._made = False  # the directory; one that disappears later is an error
        self._begin()

    @classmethod
    def _ways(cls) -> Mapping[str, str]:
        arguments = ("directory", "keep", "every", "background")
        return from_the_start(
            cls.__name__, *arguments, max_to_keep="keep", save_interval_steps="every"
        )

    def _begin(self) -> None:
        """What a forked child begins anew."""
        self._process = os.getpid()
        # Entered anew by `extra` or a signal handler that saves.
        self._mutex: AbstractContextManager[bool] = threading.RLock()
        self._lock: _core.DirectoryLock | None = None
        self._task: Task | None = None

    def save(self, opt: Optimizer, extra: Any = None, *, params: bool = True) -> Path:
        """Save a checkpoint, and remove those that are too old.

        Parameters
        ----------
        opt : Optimizer
            What to save.
        extra : tree, optional
            What else belongs to the run, as in `Optimizer.save`.
        params : bool, default True
            False leaves the parameters out.

        Returns
        -------
        Path
            The file, absolute. It is safely on disk; with ``background=True`` it will be.

        Raises
        ------
        BusyError
            If another manager writes to this directory, or the optimizer is in use.
        OSError
            If it cannot be written; all older checkpoints are still there. With
            ``background=True`` it is raised by the next call that waits for the thread.
        TypeError, ValueError
            If it cannot be saved, as in `Optimizer.save`; nothing is written.

        Notes
        -----
        With ``background=True`` the copy is of one moment, and training may go on at once. One file
        is written at a time: the next save waits until the one before is on disk.
        """
        with self._alone():
            self._settle()
            return self._save(opt, extra, params)

    def save_if_due(self, opt: Optimizer, extra: Any = None, *, params: bool = True) -> Path | None:
        """Save a checkpoint if so many steps were taken since the last one.

        It is due if ``opt.step_count`` is greater by at least `every` than at the last save or
        restore by this manager; before the first, than 0. If the count has become smaller since, it
        is counted from there.

        Parameters
        ----------
        opt : Optimizer
            What to save.
        extra : tree or callable, optional
            As in `save`. A callable is called without arguments, only if a checkpoint is due.
        params : bool, default True
            False leaves the parameters out.

        Returns
        -------
        Path or None
            The file; None if none was due.

        Raises
        ------
        ValueError
            If the manager has no `every`.

        Notes
        -----
        Other errors are those of `save`. That of a thread is raised also if nothing is due.
        """
        if self._every is None:
            raise ValueError(
                "save_if_due needs to know how often: CheckpointManager(..., every=100), or save"
            )
        _held(opt)
        with self._alone():
            self._settle(wait=False)
            self._last = min(self._last, opt.step_count)
            if opt.step_count - self._last < self._every:
                return None
            self._settle()
            return self._save(opt, extra() if callable(extra) else extra, params)

    def _save(self, opt: Optimizer, extra: Any, params: bool) -> Path:
        held = _held(opt)
        if self._background:
            entry, write = files.taken(held, extra, self._copied, params=params)
            self._start(entry.path.name, write)
        else:
            entry = files.taken(held, extra, self._written, params=params)
            directories.prune(self._directory, self._keep)
        self._before, self._last = self._last, entry.step
        return entry.path

    def _written(self, snapshot: files.Snapshot) -> directories.Entry:
        _, entry = self._place(snapshot.step_count)
        directories.remove_leftovers(self._directory)
        snapshot.write(entry.path)
        return entry

    def _copied(self, snapshot: files.Snapshot) -> tuple[directories.Entry, Callable[[], None]]:
        lock, entry = self._place(snapshot.step_count)
        # A closure would be kept, with the copy and the lock, by the traceback of an error in it.
        return entry, partial(_write, snapshot.copy(), entry.path, self._keep, lock)

    def _place(self, step: int) -> tuple[_core.DirectoryLock, directories.Entry]:
        """Where the next checkpoint goes, locked."""
        if not self._made:
            make_directory(self._directory)
            self._made = True
        if self._lock is not None and not self._lock.is_held():
            self._lock.release()
            self._lock = None
        if self._lock is None:
            self._lock = _core.DirectoryLock(self._directory)
        self._number = max(self._number + 1, directories.next_number(self._directory))
        return self._lock, directories.Entry.named(self._directory, self._number, step)

    def _start(self, name: str, write: Callable[[], object]) -> None:
        task = Task(name, write)
        try:
            self._task = task
            task.start()
        except BaseException:
            task.cancel()  # else somebody might wait for a thread that never began
            raise

    def restore(
        self,
        opt: Optimizer,
        *,
        hyperparameters: Literal["saved", "current"] = "saved",
        strict: bool = True,
        params: bool = True,
    ) -> LoadReport | None:
        """Load the latest checkpoint that is whole.

        For each that is damaged a `RuntimeWarning` says which and why, and the next older one is
        tried. One that is whole and does not fit the optimizer is an error and not passed over.

        Parameters
        ----------
        opt : Optimizer
            What takes it over.
        hyperparameters : {"saved", "current"}
            As in `Optimizer.load`.
        strict : bool, default True
            As in `Optimizer.load`.
        params : bool, default True
            As in `Optimizer.load`.

        Returns
        -------
        LoadReport or None
            What was loaded, as `Optimizer.load` tells it; None if there is no checkpoint.

        Raises
        ------
        ValueError
            If the latest that is whole does not fit, as in `Optimizer.load`; or if there are
            checkpoints and none is whole, with the reasons. Nothing is loaded.
        OSError
            If the system does not let it be read.
        BusyError
            If the optimizer is in use.
        """
        held = _held(opt)
        with self._alone():
            self._settle()
            file = self._newest()
            if file is None:
                return None
            loaded = files.load(
                held, file, hyperparameters=hyperparameters, strict=strict, params=params
            )
            self._last = self._before = opt.step_count
            return loaded

    def latest(self) -> Path | None:
        """The latest checkpoint that is whole; all of it is read. Warns and raises as `restore`.

        Returns
        -------
        Path or None
            The file; None if there is no checkpoint.
        """
        file = self._newest()
        return None if file is None else Path(file.path)

    def checkpoints(self) -> list[tuple[int, Path]]:
        """What is in the directory, whole or not, oldest first.

        Returns
        -------
        list of (int, Path)
            Step counts and files.
        """
        return [(entry.step, entry.path) for entry in directories.entries(self._directory)]

    def _newest(self) -> files.Opened | None:
        """The latest checkpoint that is whole, open."""
        reasons: dict[Path, str | None] = {}
        while True:
            # Listed anew each time: another process may save and remove some meanwhile.
            left = [path for _, path in self.checkpoints() if path not in reasons]
            if not left:
                break
            path = left[-1]
            try:
                return files.Opened(path)
            except FileNotFoundError:
                reasons[path] = None
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno != errno.EIO:  # a bad sector
                    raise
                reasons[path] = str(error)
                warnings.warn(f"a checkpoint is passed over: {error}", RuntimeWarning, stacklevel=3)
        if damaged := [reason for reason in reasons.values() if reason]:
            raise ValueError(
                itemized(f"no checkpoint in {str(self._directory)!r} is whole", damaged)
            )
        return None

    def wait(self) -> None:
        """Wait until what `save` has begun is on disk; an error of the thread is raised.

        Ctrl-C ends the waiting and not the writing.
        """
        with self._alone():
            self._settle()

    def close(self) -> None:
        """Wait as `wait` does, then give the lock back. A later save takes it again."""
        with self._alone():
            try:
                self._settle()
            finally:
                if self._task is None and self._lock is not None:
                    self._lock.release()
                    self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Exception as late:
            if error is None:
                raise
            # It is told, and does not take the place of the block's.
            report(late, threading.current_thread())

    def _alone(self) -> AbstractContextManager[bool]:
        """What one thread at a time is in."""
        if self._process != os.getpid():
            self._begin()
        return self._mutex

    def _settle(self, *, wait: bool = True) -> None:
        """Raise the error of the thread, once it is done."""
        task = self._task
        if task is None or not (wait or task.is_done()):
            return
        if task.failed():
            self._last = self._before
        self._task = None
        task.ask()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "a CheckpointManager is neither copied nor pickled, as one at a time writes to a "
            "directory; make another one, of another directory or to read"
        )

    def __repr__(self) -> str:
        background = ", background=True" if self._background else ""
        return (
            f"CheckpointManager({str(self._directory)!r}, keep={self._keep}, every={self._every}"
            f"{background})"
        )


def _write(
    snapshot: files.Snapshot, path: Path, keep: int | None, _lock: _core.DirectoryLock
) -> None:
    """What a thread does; the lock outlives a manager that is collected meanwhile."""
    directories.remove_leftovers(path.parent)
    snapshot.write(path)
    directories.prune(path.parent, keep)


def _held(opt: Any) -> Held:
    """What an optimizer holds; anything else is refused."""
    if not isinstance(opt, _core.Optimizer):
        raise TypeError(f"a checkpoint is of an optimizer of thalweg, got {type(opt).__name__}")
    return held_by(opt)

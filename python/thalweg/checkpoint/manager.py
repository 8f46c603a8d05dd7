"""`CheckpointManager`: many checkpoints in one directory. It saves, prunes and restores."""

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
    """Checkpoints of one run in a directory: saves, keeps the newest, restores the latest.

    Files are named ``checkpoint-<number>-step-<step count>.safetensors``. The number grows with
    every save, so the latest checkpoint is the one saved last, for any step counts. Other files in
    the directory are never touched.

    Parameters
    ----------
    directory : str or path
        Directory of the checkpoints. The first save makes it if it is missing.
    keep : int or None, default 3
        Number of checkpoints to keep, at least 1; None keeps all. Older ones are removed once the
        new one is on the disk.
    every : int, optional
        Steps between saves by `save_if_due`, at least 1.
    background : bool, default False
        If True, `save` copies everything and returns, and a thread writes the copy. Until then the
        copy takes as much memory as the file.

    Raises
    ------
    TypeError, ValueError
        If `keep` or `every` is not a whole number of at least 1, or `background` not a boolean.

    See Also
    --------
    Optimizer.save, Optimizer.load : One file.

    Notes
    -----
    A manager holds a lock on the directory from its first save until `close` or until it is
    deleted: a save by another manager raises `BusyError`. The end of a process releases its lock in
    any case. Reading needs no lock.

    After a fork the parent keeps the lock, and the child's manager has none. Threads that
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
        # Absolute, because the working directory may change before a thread writes.
        self._directory = Path(os.path.abspath(os.fspath(directory)))  # noqa: PTH100 - keeps links
        self._keep = None if keep is None else _core.check_whole("keep", keep, 1)
        self._every = None if every is None else _core.check_whole("every", every, 1)
        check_flag("background", background)
        self._background = background
        self._number = 0  # of the last checkpoint begun by this manager
        self._last = self._before = 0  # step counts of the last save and the one before
        self._made = False  # the directory is made once; if it disappears later, a save fails
        self._begin()

    @classmethod
    def _ways(cls) -> Mapping[str, str]:
        arguments = ("directory", "keep", "every", "background")
        return from_the_start(
            cls.__name__, *arguments, max_to_keep="keep", save_interval_steps="every"
        )

    def _begin(self) -> None:
        """Initialize the part that a forked child initializes again."""
        self._process = os.getpid()
        # Reentrant: a callable `extra` or a signal handler may save too.
        self._mutex: AbstractContextManager[bool] = threading.RLock()
        self._lock: _core.DirectoryLock | None = None
        self._task: Task | None = None

    def save(self, opt: Optimizer, extra: Any = None, *, params: bool = True) -> Path:
        """Save a checkpoint, and remove the oldest ones beyond `keep`.

        Parameters
        ----------
        opt : Optimizer
            The optimizer to save.
        extra : tree, optional
            Other data of the run, as in `Optimizer.save`.
        params : bool, default True
            Whether to save the parameters.

        Returns
        -------
        Path
            The absolute path of the file. The file is on the disk, or will be with
            ``background=True``.

        Raises
        ------
        BusyError
            If another manager writes to this directory, or the optimizer is in use.
        OSError
            If the file cannot be written; all older checkpoints stay. With ``background=True``,
            the next call that waits for the thread raises it.
        TypeError, ValueError
            If the content cannot be saved, as in `Optimizer.save`; nothing is written.

        Notes
        -----
        With ``background=True`` the copy is consistent, and training may continue at once. One file
        is written at a time: a save waits until the one before is on the disk.
        """
        with self._alone():
            self._settle()
            return self._save(opt, extra, params)

    def save_if_due(self, opt: Optimizer, extra: Any = None, *, params: bool = True) -> Path | None:
        """Save a checkpoint if `every` steps were taken since the last one.

        A checkpoint is due if ``opt.step_count`` has grown by at least `every` since the last save
        or restore by this manager, or since 0 before the first one. If the count has become smaller
        since then, the smaller count is the new start.

        Parameters
        ----------
        opt : Optimizer
            The optimizer to save.
        extra : tree or callable, optional
            As in `save`. A callable is called without arguments, only if a checkpoint is due.
        params : bool, default True
            Whether to save the parameters.

        Returns
        -------
        Path or None
            The file; None if no checkpoint was due.

        Raises
        ------
        ValueError
            If the manager has no `every`.

        Notes
        -----
        Other errors are those of `save`. The error of a background save is raised even if no
        checkpoint is due.
        """
        if self._every is None:
            raise ValueError(
                "save_if_due needs an interval; make the manager with one "
                "(CheckpointManager(..., every=100)), or call save"
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
        # Not a closure: the traceback of an error in it would keep the copy and the lock.
        return entry, partial(_write, snapshot.copy(), entry.path, self._keep, lock)

    def _place(self, step: int) -> tuple[_core.DirectoryLock, directories.Entry]:
        """Lock the directory, and name the next checkpoint."""
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
            task.cancel()  # otherwise a later call could wait for a thread that never started
            raise

    def restore(
        self,
        opt: Optimizer,
        *,
        hyperparameters: Literal["saved", "current"] = "saved",
        strict: bool = True,
        params: bool = True,
    ) -> LoadReport | None:
        """Load the latest checkpoint that is not damaged.

        A damaged file is passed over with a `RuntimeWarning` that names the file and the reason;
        the next older one is tried. An undamaged file that does not fit the optimizer is an error.

        Parameters
        ----------
        opt : Optimizer
            The optimizer to load into.
        hyperparameters : {"saved", "current"}
            As in `Optimizer.load`.
        strict : bool, default True
            As in `Optimizer.load`.
        params : bool, default True
            As in `Optimizer.load`.

        Returns
        -------
        LoadReport or None
            The result of `Optimizer.load`; None if there is no checkpoint.

        Raises
        ------
        ValueError
            If the latest undamaged checkpoint does not fit, as in `Optimizer.load`, or if all
            checkpoints are damaged; the message lists the reasons. Nothing is loaded.
        OSError
            If the operating system refuses access to a checkpoint.
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
        """The latest undamaged checkpoint. Reads all of it; warns and raises as `restore`.

        Returns
        -------
        Path or None
            The file; None if there is no checkpoint.
        """
        file = self._newest()
        return None if file is None else Path(file.path)

    def checkpoints(self) -> list[tuple[int, Path]]:
        """All checkpoints in the directory, damaged or not, oldest first.

        Returns
        -------
        list of (int, Path)
            Step counts and files.
        """
        return [(entry.step, entry.path) for entry in directories.entries(self._directory)]

    def _newest(self) -> files.Opened | None:
        """The latest checkpoint that is not damaged, open."""
        reasons: dict[Path, str | None] = {}
        while True:
            # Listed again each time: another process may save and remove files meanwhile.
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
                warnings.warn(f"a checkpoint is skipped: {error}", RuntimeWarning, stacklevel=3)
        if damaged := [reason for reason in reasons.values() if reason]:
            raise ValueError(
                itemized(f"no checkpoint in {str(self._directory)!r} is intact", damaged)
            )
        return None

    def wait(self) -> None:
        """Wait until a background save is on the disk, and raise its error.

        Ctrl-C ends the wait but not the save.
        """
        with self._alone():
            self._settle()

    def close(self) -> None:
        """Wait as `wait` does, and release the lock. A later save takes it again."""
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
            # Reported, so that it does not replace the error of the block.
            report(late, threading.current_thread())

    def _alone(self) -> AbstractContextManager[bool]:
        """Context manager that one thread at a time can enter."""
        if self._process != os.getpid():
            self._begin()
        return self._mutex

    def _settle(self, *, wait: bool = True) -> None:
        """Raise the error of the thread once it has ended."""
        task = self._task
        if task is None or not (wait or task.is_done()):
            return
        if task.failed():
            self._last = self._before
        self._task = None
        task.ask()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "a CheckpointManager cannot be copied or pickled, because one writer at a time is "
            "allowed in a directory; make another one, for another directory or for reading"
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
    """The work of a thread. `_lock` keeps the lock even if the manager is deleted meanwhile."""
    directories.remove_leftovers(path.parent)
    snapshot.write(path)
    directories.prune(path.parent, keep)


def _held(opt: Any) -> Held:
    """The internals of an optimizer; TypeError for any other object."""
    if not isinstance(opt, _core.Optimizer):
        raise TypeError(
            f"opt must be an optimizer of thalweg, such as AdamW, got {type(opt).__name__}"
        )
    held = held_by(opt)
    held.check_alone("a CheckpointManager")
    return held

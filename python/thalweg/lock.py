"""Locks on directories: one writer at a time, among processes and within one.

On POSIX it is a record lock on a file in the directory, which the system gives back when the
process ends, however it ends, and which a forked child does not inherit. A record lock is the
process's: it does not keep the process from itself, and is lost when any descriptor of the file is
closed. So what this process holds is listed, and looked up before the file is opened.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from pathlib import Path
from typing import NoReturn

from thalweg.errors import BusyError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["DirectoryLock", "is_locked_here"]

NAME = ".lock"
BEYOND = 1 << 30
"""The byte that is locked where a locked byte cannot be read: beyond what the file says."""
CONTENDED = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


class _Held:
    """An open and locked file."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor


HELD: dict[str, _Held] = {}
"""By file; void in a forked child."""
MUTEX = threading.RLock()  # collection may release a lock anywhere, in here too


class DirectoryLock:
    """An exclusive lock on a directory, from now until `release` or until it is collected.

    A forked child inherits the object and not the lock.

    Parameters
    ----------
    directory : path
        One that is there.
    name : str, default ".lock"
        The file in it that is locked: it is made, and stays.

    Raises
    ------
    BusyError
        If another process, or another object of this one, holds it.
    OSError
        If the file cannot be made or locked.
    """

    def __init__(self, directory: str | os.PathLike[str], name: str = NAME) -> None:
        self._key = _key(directory, name)
        self._held: _Held | None = None
        with MUTEX:
            if self._key in HELD:
                _refuse(directory, os.getpid())
            self._held = HELD[self._key] = _Held(_acquire(directory, name))

    def is_held(self) -> bool:
        """Whether this process holds the lock, on the file that now has its name."""
        with MUTEX:
            if self._held is None or HELD.get(self._key) is not self._held:
                return False
            try:
                named = Path(self._key).lstat()
            except FileNotFoundError:
                return False
            return os.path.samestat(named, os.fstat(self._held.descriptor))

    def release(self) -> None:
        """Give it back, if it is held."""
        with MUTEX:
            if self._held is not None and HELD.get(self._key) is self._held:
                del HELD[self._key]
                _unlock(self._held.descriptor)
            self._held = None

    def __del__(self) -> None:
        if getattr(self, "_held", None) is not None:
            self.release()


def is_locked_here(directory: str | os.PathLike[str], name: str = NAME) -> bool:
    """Whether this process holds the lock."""
    with MUTEX:
        return _key(directory, name) in HELD


def _key(directory: str | os.PathLike[str], name: str) -> str:
    return os.path.join(os.path.realpath(directory), name)  # noqa: PTH118 - of a string


def _refuse(directory: str | os.PathLike[str], holder: int | str) -> NoReturn:
    raise BusyError(
        f"{os.fspath(directory)!r} is in use by process {holder}; one at a time writes to a "
        "directory: wait for it, or close it"
    )


def _acquire(directory: str | os.PathLike[str], name: str) -> int:
    """The descriptor of the locked file, which then says who holds it."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(Path(directory) / name, flags, 0o666)
    try:
        _lock(descriptor)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())
    except OSError as error:
        written = os.read(descriptor, 20).strip()
        os.close(descriptor)
        if error.errno not in CONTENDED:
            raise
        # Whoever has it may not have said so yet.
        _refuse(directory, int(written) if written.isdigit() else "unknown")
    return descriptor


if sys.platform == "win32":

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, BEYOND, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, BEYOND, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        os.close(descriptor)

else:

    def _lock(descriptor: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        os.close(descriptor)  # which unlocks

    def _forget() -> None:
        """In a forked child: the locks are the parent's.

        Their files are closed now, because later that would undo locks of the child's own on them.
        """
        for held in HELD.values():
            os.close(held.descriptor)
        HELD.clear()
        MUTEX.release()

    os.register_at_fork(before=MUTEX.acquire, after_in_parent=MUTEX.release, after_in_child=_forget)

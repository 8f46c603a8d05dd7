"""One optimizer at a time in a directory: a lock that ends with the process, and a list of its own.

A record lock belongs to the process, so that a forked child does not have it; within the process it
refuses nobody, and closing any other descriptor of the file gives it up. Hence the list, which is
looked at before the file is opened.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from thalweg.errors import BusyError

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # a byte that others need not read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


__all__ = ["DirectoryLock"]

_HELD: dict[tuple[int, int], int] = {}
"""Directories that are locked here, by device and inode, with the process that did it."""


class DirectoryLock:
    """The lock of a directory, from being made until `release`.

    Raises
    ------
    BusyError
        If somebody has it, with the number of their process.
    """

    def __init__(self, directory: Path) -> None:
        self._key = _key(directory)
        self._process = os.getpid()
        self._descriptor: int | None = None
        if is_locked_here(directory):
            gc.collect()  # an optimizer and its groups refer to each other
        owner = str(self._process) if is_locked_here(directory) else self._take(directory)
        if owner is not None:
            raise BusyError(
                f"state_dir {directory} is in use by an optimizer of process {owner}; one at a "
                "time can train what is there (opt.close() ends it)"
            )

    def _take(self, directory: Path) -> str | None:
        """Lock the file; returns the process that has it where it is locked."""
        descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
        except OSError:
            owner = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            return owner or "unknown"
        _HELD[self._key], self._descriptor = self._process, descriptor
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"{self._process}\n".encode())
        return None

    def release(self) -> None:
        """Give it up; in a forked child there is nothing to give up."""
        if self._process == os.getpid() and self._descriptor is not None:
            del _HELD[self._key]
            os.close(self._descriptor)
            self._descriptor = None


def is_locked_here(directory: Path) -> bool:
    """Whether this process has the lock of a directory."""
    return _HELD.get(_key(directory)) == os.getpid()


def _key(directory: Path) -> tuple[int, int]:
    found = directory.stat()
    return found.st_dev, found.st_ino

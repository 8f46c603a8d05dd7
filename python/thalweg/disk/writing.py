"""Writes that appear completely or not at all, and that survive a power failure."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from thalweg import _core

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = [
    "appearing",
    "make_directory",
    "naming",
    "sync_directories",
    "sync_file",
]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file name to an OSError without one, as raised by a write or a map."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def appearing(path: Path, ending: str) -> Iterator[Path]:
    """Context manager that makes a file or directory.

    Yields a temporary path and renames it to `path` at the end. After an error it is removed.
    """
    made = path.with_name(path.name + ending)
    _remove(made)  # left by a call that was killed
    try:
        with naming(path):
            yield made
            made.replace(path)
    except BaseException:
        with suppress(OSError):
            _remove(made)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_directory(directory: Path) -> None:
    """Make a directory and its missing parents so that they survive a power failure."""
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in made:
        _core.sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Flush a file to the disk."""
    with naming(path):
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_directories(directories: Iterable[Path]) -> None:
    """Flush the names in directories to the disk, if the system supports it."""
    for directory in directories:
        _core.sync_directory(directory)

"""Writing files and directories that appear whole or not at all, and stay."""

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
    """Let an error of the system name the file: that of a write or a map does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def appearing(path: Path, ending: str) -> Iterator[Path]:
    """Where a file or directory is made, which then has its name; nothing is left of a failure."""
    made = path.with_name(path.name + ending)
    _remove(made)  # what a call that was killed has left
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
    """Make a directory, and those above it, all of which a power failure leaves in place."""
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in made:
        _core.sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Put what was written to a file on the disk."""
    with naming(path):
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_directories(directories: Iterable[Path]) -> None:
    """Put the names of files on the disk, where that can be done."""
    for directory in directories:
        _core.sync_directory(directory)

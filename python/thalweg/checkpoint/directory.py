"""Directories of checkpoints: file names, listing and removal.

A name has a number that grows with every save. So the newest by number is the newest by time, for
any step counts.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Entry", "entries", "next_number", "prune", "remove_leftovers"]

NAME = re.compile(
    r"checkpoint-([0-9]{8,})-step-([0-9]+)\.safetensors((?:\.[0-9a-f]{16})?\.partial)?"
)


class Entry(NamedTuple):
    """A file, described by its name. Entries sort by number."""

    number: int
    step: int
    path: Path
    partial: bool

    @classmethod
    def named(cls, directory: Path, number: int, step: int) -> Entry:
        """The entry of a new file."""
        path = directory / f"checkpoint-{number:08}-step-{step}.safetensors"
        return cls(number, step, path, partial=False)


def _named(directory: Path, *, files: bool) -> list[Entry]:
    """Entries with names of checkpoints, sorted. None are found in a missing directory."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as scanned:
        for item in scanned:
            name = NAME.fullmatch(item.name)
            if name and not (files and not item.is_file()):
                entry = directory / item.name
                found.append(Entry(int(name[1]), int(name[2]), entry, partial=bool(name[3])))
    return sorted(found)


def entries(directory: Path) -> list[Entry]:
    """The checkpoints, oldest first."""
    return [entry for entry in _named(directory, files=True) if not entry.partial]


def next_number(directory: Path) -> int:
    """One more than the largest number in any name, file or not, so that nothing is overwritten."""
    return max((entry.number for entry in _named(directory, files=False)), default=0) + 1


def remove_leftovers(directory: Path) -> None:
    """Remove unfinished files, left by killed saves."""
    _remove(entry for entry in _named(directory, files=True) if entry.partial)


def prune(directory: Path, keep: int | None) -> None:
    """Remove all but the newest checkpoints."""
    _remove(entries(directory)[: 0 if keep is None else -keep])


def _remove(unwanted: Iterable[Entry]) -> None:
    for entry in unwanted:
        _unlink(entry.path)


def _unlink(path: Path) -> None:
    """Remove a file. Warn if that fails; the next removal tries again."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(str(error), RuntimeWarning, stacklevel=2)

"""Directories of checkpoints: names of files, which there are, which are removed.

A name has a number that grows with every save, so that the newest by number is the newest by time,
whatever the step counts say.
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
    """A file by its name; entries sort by number."""

    number: int
    step: int
    path: Path
    partial: bool

    @classmethod
    def named(cls, directory: Path, number: int, step: int) -> Entry:
        """A file that is to be written."""
        path = directory / f"checkpoint-{number:08}-step-{step}.safetensors"
        return cls(number, step, path, partial=False)


def _named(directory: Path, *, files: bool) -> list[Entry]:
    """What has a name of ours, sorted; none where there is no directory."""
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
    """One more than any name has; whatever it is of, nothing is written over."""
    return max((entry.number for entry in _named(directory, files=False)), default=0) + 1


def remove_leftovers(directory: Path) -> None:
    """Remove what killed saves have left."""
    _remove(entry for entry in _named(directory, files=True) if entry.partial)


def prune(directory: Path, keep: int | None) -> None:
    """Remove all but the newest checkpoints."""
    _remove(entries(directory)[: 0 if keep is None else -keep])


def _remove(unwanted: Iterable[Entry]) -> None:
    for entry in unwanted:
        _unlink(entry.path)


def _unlink(path: Path) -> None:
    """Remove a file. If that fails it is said; the file is there for the next time."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(str(error), RuntimeWarning, stacklevel=2)

"""The warning that a file system has no locks; the core tells when."""

from __future__ import annotations

import os
import sys
import warnings

from thalweg.errors import UnlockedWarning

__all__ = ["warn_unlocked"]

WARNED: set[str] = set()
"""Directories that it was said of."""


def warn_unlocked(directory: str | os.PathLike[str], reason: str) -> None:
    """Say, once a directory, that nothing keeps other processes away; called natively.

    An error where warnings are errors, and then it is none the less one the next time.
    """
    place = os.path.realpath(directory)
    if place in WARNED:
        return
    warnings.warn(
        f"{place!r} is on a file system without locks ({reason}): see to it that one process at a "
        "time writes there, and silence this by "
        "warnings.filterwarnings('ignore', category=thalweg.UnlockedWarning)",
        UnlockedWarning,
        stacklevel=_depth(),
    )
    WARNED.add(place)


def _depth() -> int:
    """How far up the caller of the package is, seen from `warn_unlocked`."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__")):
        depth, frame = depth + 1, frame.f_back
    return depth


def _is_ours(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] == "thalweg"

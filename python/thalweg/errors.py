"""Exceptions and warnings of thalweg. Each derives from the built-in one that fits."""

from __future__ import annotations

import os
import sys
import warnings

__all__ = ["BusyError", "NonFiniteError", "UnlockedWarning", "warn_unlocked"]

WARNED: set[str] = set()
"""Directories that `warn_unlocked` has warned of."""


class NonFiniteError(FloatingPointError):
    """A gradient is NaN, infinite, or so large that its square overflows; nothing was changed.

    Parameters
    ----------
    message : str
        What happened.
    nonfinite : dict of str to int
        For each such gradient by name, how many of its elements.
    step : int
        1-based number of the step that was refused.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> opt = thalweg.AdamW({"w": np.ones(3)})
    >>> try:
    ...     opt.step({"w": np.array([1.0, np.nan, np.inf])})
    ... except thalweg.NonFiniteError as error:
    ...     error.nonfinite, error.step
    ({'w': 2}, 1)
    """

    def __init__(self, message: str, nonfinite: dict[str, int], step: int) -> None:
        super().__init__(message)
        self.nonfinite = nonfinite
        self.step = step

    def __reduce__(self) -> tuple[type[NonFiniteError], tuple[str, dict[str, int], int]]:
        return type(self), (str(self), self.nonfinite, self.step)


class BusyError(RuntimeError):
    """The optimizer is in use already, in another thread or further up in this one."""


class UnlockedWarning(RuntimeWarning):
    """A file system has no locks, so nothing keeps a second process from a directory.

    Files are whole all the same. It is said once a directory, before anything is written there. A
    program that sees to it that one process at a time writes says
    ``warnings.filterwarnings("ignore", category=thalweg.UnlockedWarning)``; with ``"error"`` what
    would do without a lock is refused.
    """


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
    depth, frame = 1, sys._getframe(1)  # noqa: SLF001 - documented, for all its name
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__")):
        depth, frame = depth + 1, frame.f_back
    return depth


def _is_ours(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] == "thalweg"

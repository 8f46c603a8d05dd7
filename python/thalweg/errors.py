"""Exceptions and warnings of thalweg, and text shared by their messages.

Each exception derives from the closest built-in one.
"""

from __future__ import annotations

import os
import sys
import warnings
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "BusyError",
    "NonFiniteError",
    "UnlockedWarning",
    "check_flag",
    "did_you_mean",
    "is_ours",
    "itemized",
    "type_name",
    "typed",
    "unfitting",
    "warn_unlocked",
]

WARNED: set[str] = set()
"""Directories for which `warn_unlocked` has issued its warning."""


class NonFiniteError(FloatingPointError):
    """A gradient is NaN, infinite, or so large that its square overflows; nothing was changed.

    Parameters
    ----------
    message : str
        Text of the error.
    nonfinite : dict of str to int
        Number of such elements in each affected gradient, by name.
    step : int
        1-based number of the refused step.

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
    """The optimizer, file or directory is in use, by another thread or process or by a caller."""


class UnlockedWarning(RuntimeWarning):
    """A file system has no locks, so a second process can use the same directory.

    Each file is still written whole or not at all. The warning comes once per directory, before the
    first write. A program that ensures that only one process writes at a time can silence it with
    ``warnings.filterwarnings("ignore", category=thalweg.UnlockedWarning)``. With ``"error"``, work
    that would continue without a lock is refused.
    """


def warn_unlocked(directory: str | os.PathLike[str], reason: str) -> None:
    """Warn, once per directory, that no lock keeps other processes out; called natively.

    Where a filter makes the warning an error, each call raises: a directory counts as warned of
    only once `warnings.warn` has returned.
    """
    place = os.path.realpath(directory)
    if place in WARNED:
        return
    warnings.warn(
        f"{place!r} is on a file system without locks ({reason}): make sure that one process at a "
        "time writes there, and silence this warning by warnings.filterwarnings('ignore', "
        "category=thalweg.UnlockedWarning)",
        UnlockedWarning,
        stacklevel=_depth(),
    )
    WARNED.add(place)


def check_flag(name: str, value: Any, kinds: Any = bool) -> None:
    """Raise TypeError if a value is not of `kinds`, the types of booleans."""
    if not isinstance(value, kinds):
        raise TypeError(f"{name} must be True or False, got {typed(value)}")


def type_name(value: object) -> str:
    """The name of a value's type, with its module unless it is a builtin."""
    kind = type(value)
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return prefix + kind.__qualname__


def typed(value: object) -> str:
    """A value of the wrong type, for a message."""
    return f"{value!r} of type {type_name(value)}"


def unfitting(missing: Iterable[str], unexpected: Iterable[str]) -> str:
    """Names that are missing and names that are unexpected, for the end of a message."""
    named = (("missing", [*missing]), ("unexpected", [*unexpected]))
    return "".join(f"; {what}: {', '.join(map(repr, names))}" for what, names in named if names)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A hint at the known name closest to an unknown one; empty if none is close."""
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def itemized(message: str, differences: Iterable[str]) -> str:
    """A message and a list of differences, one per line."""
    return "\n- ".join([f"{message}:", *differences])


def _depth() -> int:
    """`stacklevel` for `warn_unlocked`: the first frame outside the package."""
    depth, frame = 1, sys._getframe(1)  # noqa: SLF001 - documented, despite the underscore
    while frame.f_back is not None and is_ours(frame.f_globals.get("__name__")):
        depth, frame = depth + 1, frame.f_back
    return depth


def is_ours(module: object) -> bool:
    """Whether a module name belongs to thalweg."""
    return isinstance(module, str) and module.partition(".")[0] == "thalweg"

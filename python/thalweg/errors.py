"""Exceptions of thalweg. Each derives from the built-in exception that fits."""

from __future__ import annotations

__all__ = ["BusyError", "NonFiniteError", "UnlockedWarning"]


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

"""Schedules of other libraries, which count steps from 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thalweg.schedule.base import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, repr=False)
class zero_based(Schedule):
    """A function of a 0-based step, as those of optax and Keras and the lambdas of torch are.

    ``function(step - 1)``. It is no JSON value: state dicts record it by name, as they do with
    other callables.

    Parameters
    ----------
    function : callable
        Number of the step, from 0, to value.

    Examples
    --------
    >>> from thalweg import schedule
    >>> s = schedule.zero_based(lambda epoch: 0.95**epoch)
    >>> s(1), s(2)
    (1.0, 0.95)
    """

    function: Callable[[int], float]

    def __post_init__(self) -> None:
        if isinstance(self.function, Schedule):
            raise TypeError(f"{self.function!r} counts from 1 already; zero_based is for others")
        if not callable(self.function):
            raise TypeError(f"zero_based wraps a function of the step, got {self.function!r}")

    def _at(self, step: int) -> float:
        return self.function(step - 1)

    def __repr__(self) -> str:
        return f"zero_based({name_of(self.function)})"


def name_of(value: object) -> str:
    """Module and name of a callable; of its class, if it has none itself."""
    module = getattr(value, "__module__", None) or type(value).__module__
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return f"{module}.{name}"

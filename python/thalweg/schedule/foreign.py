"""Schedules of other libraries, which count steps from 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thalweg.schedule.base import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, repr=False)
class zero_based(Schedule):
    """A function of the 0-based step, as the schedules of optax and Keras and torch's lambdas are.

    ``function(step - 1)``. JSON cannot represent it; state dicts record it by name, like other
    callables.

    Parameters
    ----------
    function : callable
        Maps the number of the step, from 0, to the value.

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
            raise TypeError(
                "zero_based must wrap a function that counts steps from 0, got "
                f"{self.function!r}, which counts from 1"
            )
        if not callable(self.function):
            raise TypeError(f"zero_based must wrap a function of the step, got {self.function!r}")

    def _at(self, step: int) -> float:
        return self.function(step - 1)

    def __repr__(self) -> str:
        return f"zero_based({name_of(self.function)})"


def name_of(value: object) -> str:
    """Module and name of a callable, or those of its class if it has none."""
    module = getattr(value, "__module__", None) or type(value).__module__
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return f"{module}.{name}"

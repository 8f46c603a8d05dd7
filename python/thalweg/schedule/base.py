"""The base class of schedules, with call, arithmetic, representation and JSON.

A schedule is a value: a frozen dataclass of its options. An optimizer only calls it with the
1-based step. Because it is a value, it can be compared, saved and restored.
"""

from __future__ import annotations

import operator
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from thalweg import _core
from thalweg.schedule import checks
from thalweg.schedule.plain import encode, given

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalweg.numbers import Real

STEP_LIMIT = 2**64


class Schedule(ABC):
    """A pure function of the 1-based step that is also a value.

    The functions of `thalweg.schedule` make schedules. Schedules are immutable, hashable and
    picklable; two are equal if their options are.

    Examples
    --------
    >>> from thalweg import schedule
    >>> lr = 3e-3 * schedule.cosine(total=1000, warmup=100)
    >>> lr
    0.003 * cosine(total=1000, warmup=100)
    >>> lr(50), lr(100), lr(1000)
    (0.0015, 0.003, 0.0)
    """

    __array_ufunc__: ClassVar[None] = None
    """With None, NumPy scalars leave `*` and `+` to the schedule."""

    def __call__(self, step: int) -> float:
        """Value at a step.

        Parameters
        ----------
        step : int
            1-based: the first update is step 1.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If `step` is not a whole number, or less than 1.
        """
        # The check in Rust takes as long as a cosine; the ints of an optimizer do not need it.
        if type(step) is not int or not 0 < step < STEP_LIMIT:
            step = _core.check_whole("step", step, 1)
        return self._at(step)

    @abstractmethod
    def _at(self, step: int) -> float:
        """Value at a step, which is checked: an int of at least 1."""

    def then(self, schedule: Schedule, *, at: int) -> Schedule:
        """Switch to another schedule at a step.

        Parameters
        ----------
        schedule : Schedule
            The schedule from step `at` on. Its step 1 is step `at`.
        at : int
            The first step of `schedule`, at least 2.

        Returns
        -------
        Schedule

        Examples
        --------
        >>> from thalweg import schedule
        >>> warm = schedule.linear(total=5, peak=0.0, final=1.0).then(schedule.constant(), at=6)
        >>> [warm(step) for step in (1, 3, 5, 6, 100)]
        [0.0, 0.5, 1.0, 1.0, 1.0]
        """
        return Then(self, schedule, at)

    def to_json(self) -> dict[str, Any]:
        """The schedule as a dict of strings, numbers, booleans, lists and dicts.

        Returns
        -------
        dict
            ``{"schedule": name, option: value, ...}`` without options that have their default.
            `from_json` makes an equal schedule from it.

        Raises
        ------
        TypeError
            If the schedule contains a `zero_based` function or a foreign subclass of `Schedule`.

        Examples
        --------
        >>> from thalweg import schedule
        >>> schedule.cosine(total=1000, warmup=100).to_json()
        {'schedule': 'cosine', 'total': 1000, 'warmup': 100}
        """
        return encode(self)

    def __mul__(self, other: Schedule | Real) -> Schedule:
        operand = _operand(other)
        return NotImplemented if operand is None else Product(self, operand)

    def __rmul__(self, other: Real) -> Schedule:
        operand = _operand(other)
        return NotImplemented if operand is None else Product(operand, self)

    def __add__(self, other: Schedule | Real) -> Schedule:
        operand = _operand(other)
        return NotImplemented if operand is None else Sum(self, operand)

    def __radd__(self, other: Real) -> Schedule:
        operand = _operand(other)
        return NotImplemented if operand is None else Sum(operand, self)

    def __format__(self, spec: str) -> str:
        # Width and alignment apply to the text. A precision is refused: it is meant for a number.
        if re.fullmatch(r"(.?[<>^])?\d*s?", spec) is None:
            raise TypeError(
                f"a schedule cannot be formatted as {spec!r}; call it with a step "
                "(opt.lr(opt.step_count + 1)), or format report.lr, the rate of a step"
            )
        return format(repr(self), spec)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in given(self).items())
        return f"{type(self).__name__}({options})"


unchecked: Callable[[Schedule], Callable[[int], float]] = operator.attrgetter("_at")
"""A schedule's function for steps that are already checked."""


class Warmed(Schedule):
    """A schedule with a linear warmup from 0 to its peak in front.

    ``peak·step/warmup`` up to step ``warmup``. Without warmup, step 1 has the peak.
    """

    warmup: int
    peak: float

    def _at(self, step: int) -> float:
        warmup = self.warmup
        if step < warmup:
            return self.peak * (step / warmup)
        return self._after(step - (warmup or 1))

    @abstractmethod
    def _after(self, steps: int) -> float:
        """Value `steps` steps after the peak; 0 gives the peak."""


@dataclass(frozen=True, repr=False)
class _Pair(Schedule):
    """Two operands, at least one of them a schedule."""

    left: Schedule | float
    right: Schedule | float

    _sign: ClassVar[str]

    def __post_init__(self) -> None:
        for name in ("left", "right"):
            if not isinstance(getattr(self, name), Schedule):
                checks.number(self, name)
        if isinstance(self.left, float) and isinstance(self.right, float):
            raise ValueError(  # noqa: TRY004 - each type is valid, their combination is not
                f"one of two operands must be a schedule, got {self!r}"
            )

    def _values(self, step: int) -> tuple[float, float]:
        left, right = self.left, self.right
        return (
            left if isinstance(left, float) else unchecked(left)(step),
            right if isinstance(right, float) else unchecked(right)(step),
        )

    def __repr__(self) -> str:
        # Operators are left-associative, so a left operand of equal precedence has no brackets.
        binding = _binding(self)
        left = _bracketed(self.left, binding)
        return f"{left} {self._sign} {_bracketed(self.right, binding + 1)}"


@dataclass(frozen=True, repr=False)
class Product(_Pair):
    """``left * right`` at every step."""

    _sign = "*"

    def _at(self, step: int) -> float:
        left, right = self._values(step)
        return left * right


@dataclass(frozen=True, repr=False)
class Sum(_Pair):
    """``left + right`` at every step."""

    _sign = "+"

    def _at(self, step: int) -> float:
        left, right = self._values(step)
        return left + right


@dataclass(frozen=True, repr=False)
class Then(Schedule):
    """See `Schedule.then`."""

    first: Schedule
    second: Schedule
    at: int

    def __post_init__(self) -> None:
        only_schedule("first", self.first)
        only_schedule("second", self.second)
        checks.whole(self, "at", 2)

    def _at(self, step: int) -> float:
        if step < self.at:
            return unchecked(self.first)(step)
        return unchecked(self.second)(step - self.at + 1)

    def __repr__(self) -> str:
        return f"{_bracketed(self.first, _binding(self))}.then({self.second!r}, at={self.at})"


def _binding(schedule: Schedule) -> int:
    """Precedence of a representation: 1 for a sum, 2 for a product, 3 for a call."""
    return 1 if isinstance(schedule, Sum) else 2 if isinstance(schedule, Product) else 3


def _bracketed(operand: Schedule | float, binding: int) -> str:
    """The representation of an operand, in brackets if its precedence is below `binding`."""
    loose = isinstance(operand, Schedule) and _binding(operand) < binding
    return f"({operand!r})" if loose else repr(operand)


def only_schedule(name: str, value: object) -> None:
    """Raise TypeError if `value` is not a schedule."""
    if not isinstance(value, Schedule):
        raise TypeError(
            f"{name} must be a schedule, got {value!r}; schedule.constant(x) makes one of a "
            "number, schedule.zero_based(f) of a function that counts steps from 0"
        )


def _operand(value: Any) -> Schedule | float | None:
    """An operand of a schedule's `*` and `+`: a schedule, a number, or None for anything else."""
    if callable(value):
        only_schedule("an operand", value)
        schedule: Schedule = value
        return schedule
    if not (hasattr(type(value), "__float__") or hasattr(type(value), "__index__")):
        return None
    return _core.check_number("an operand", value)  # errors of the number's own methods propagate

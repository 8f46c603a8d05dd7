"""Validation of the options of schedules.

Options are checked when a schedule is made, and kept as plain `int`, `float`, `str` and `bool`, so
that equal schedules have equal representations and equal JSON. An error names the option, the given
value and the allowed values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thalweg import _core
from thalweg.errors import check_flag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LARGEST = 1e300
"""Largest magnitude of an option, so that the difference of two is finite."""


def keep(schedule: Any, name: str, value: Any) -> None:
    """Set an option of a frozen dataclass during its construction."""
    object.__setattr__(schedule, name, value)


def whole(schedule: Any, name: str, least: int) -> None:
    """Keep an option as an integer of at least `least`."""
    keep(schedule, name, _core.check_whole(name, getattr(schedule, name), least))


def number(schedule: Any, name: str, *bounds: float, **ends: bool) -> None:
    """Keep an option as a float in a range; the arguments are those of `in_range`."""
    keep(schedule, name, in_range(name, getattr(schedule, name), *bounds, **ends))


def in_range(
    name: str,
    given: Any,
    low: float = -LARGEST,
    high: float = LARGEST,
    *,
    above: bool = False,
    below: bool = False,
) -> float:
    """`given` as a float in a range; minus zero becomes zero.

    `above` and `below` exclude `low` and `high`.
    """
    value = _core.check_number(name, given) + 0.0
    if not (low < value if above else low <= value) or not (
        value < high if below else value <= high
    ):
        least = f"{'greater than' if above else 'at least'} {low:g}"
        most = f"{'less than' if below else 'at most'} {high:g}"
        raise ValueError(f"{name} must be {least} and {most}, got {value!r}")
    return value


def choice(schedule: Any, name: str, *allowed: str) -> None:
    """Keep an option that is one of the `allowed` strings."""
    value = getattr(schedule, name)
    if not isinstance(value, str) or value not in allowed:
        *words, last = map(repr, allowed)
        raise ValueError(f"{name} must be {', '.join(words)} or {last}, got {value!r}")
    keep(schedule, name, str(value))


def flag(schedule: Any, name: str) -> None:
    """Raise TypeError if an option is not a bool."""
    check_flag(name, getattr(schedule, name))


def span(schedule: Any) -> None:
    """Keep ``total`` and ``warmup``, which must be less than the total."""
    whole(schedule, "total", 2)
    whole(schedule, "warmup", 0)
    total, warmup = schedule.total, schedule.warmup
    if warmup >= total:
        raise ValueError(f"warmup must be less than total, got warmup={warmup}, total={total}")


def points(schedule: Any, name: str) -> None:
    """Keep a mapping of steps to numbers, or pairs of both, as a tuple of pairs sorted by step."""
    given = getattr(schedule, name)
    try:
        pairs = [(step, value) for step, value in _items(given)]
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must map steps to numbers, got {given!r}") from error
    checked = sorted(
        (_core.check_whole(f"a step of {name}", step, 1), in_range(f"{name}[{step}]", value))
        for step, value in pairs
    )
    steps = [step for step, _ in checked]
    if steps[:1] != [1]:
        raise ValueError(f"{name} must begin at step 1, got steps {steps}")
    if len(set(steps)) < len(steps):
        raise ValueError(f"{name} must have one value per step, got steps {steps}")
    keep(schedule, name, tuple(checked))


def _items(given: Mapping[Any, Any] | Iterable[Any]) -> Iterable[Any]:
    items: Iterable[Any] = given.items() if hasattr(given, "items") else given
    return items

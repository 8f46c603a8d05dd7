"""Schedules as plain values, to and from JSON.

A schedule is its class and its options, so one function each way serves all of them. Options that
have their default are left out, here and in `repr`: the defaults are part of the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thalweg.schedule.base import Schedule

KINDS: dict[str, type[Any]] = {}
"""The schedules that JSON can hold, by name."""


def given(schedule: Any) -> dict[str, Any]:
    """The options of a schedule that do not have their default."""
    options = {
        field.name: (getattr(schedule, field.name), field.default) for field in fields(schedule)
    }
    return {name: value for name, (value, default) in options.items() if value != default}


def is_plain(schedule: Any) -> bool:
    """Whether a schedule is a plain value with all that is in it."""
    return KINDS.get(_kind(schedule)) is type(schedule) and all(
        is_plain(value) for value in given(schedule).values() if callable(value)
    )


def _kind(schedule: Schedule) -> str:
    return type(schedule).__name__.lower()


def encode(schedule: Schedule) -> dict[str, Any]:
    """See `Schedule.to_json`."""
    if not is_plain(schedule):
        raise TypeError(
            f"{schedule!r} is no JSON value: it calls a function or a class that is not part of "
            "thalweg.schedule"
        )
    return {
        "schedule": _kind(schedule),
        **{name: _plain(value) for name, value in given(schedule).items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [list(pair) for pair in value]
    return encode(value) if callable(value) else value


def from_json(value: Mapping[str, Any]) -> Schedule:
    """Make the schedule whose `to_json` gave `value`.

    Parameters
    ----------
    value : mapping
        ``{"schedule": name, option: value, ...}``; options that are schedules are mappings too.

    Returns
    -------
    Schedule
        Equal to the one that was written.

    Raises
    ------
    ValueError
        If it is no schedule, saying what is wrong with it.

    Examples
    --------
    >>> from thalweg import schedule
    >>> schedule.from_json({"schedule": "cosine", "total": 1000, "warmup": 100})
    cosine(total=1000, warmup=100)
    """
    try:
        return _decoded(value)
    except RecursionError:
        raise ValueError("the JSON of a schedule is nested too deeply") from None


def _decoded(value: Any) -> Schedule:
    if not isinstance(value, Mapping) or not isinstance(value.get("schedule"), str):
        raise ValueError(  # noqa: TRY004 - JSON is wrong as a value, whatever is wrong in it
            f"a schedule in JSON is a mapping with the key 'schedule', got {value!r}"
        )
    kind = value["schedule"]
    if kind not in KINDS:
        raise ValueError(f"there is no schedule {kind!r}; there are {', '.join(KINDS)}")
    known = fields(KINDS[kind])
    unknown = [key for key in value if key not in {"schedule", *(field.name for field in known)}]
    missing = [f.name for f in known if f.default is MISSING and f.name not in value]
    if unknown or missing:
        raise ValueError(
            f"the options of schedule {kind!r} do not fit: unknown {unknown}, missing {missing}"
        )
    options = {
        field.name: _decoded(option) if isinstance(option, Mapping) else option
        for field in known
        if (option := value.get(field.name, MISSING)) is not MISSING
    }
    try:
        schedule: Schedule = KINDS[kind](**options)
    except TypeError as error:
        raise ValueError(f"in schedule {kind!r}: {error}") from None
    return schedule

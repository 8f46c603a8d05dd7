"""Schedules as plain values, for JSON.

A schedule consists of its class and its options, so one function encodes all kinds. Options with
their default value are left out, here and in `repr`: the defaults are part of the format.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

KINDS: dict[str, type[Any]] = {}
"""The schedules that JSON can represent, by name."""


def given(schedule: Any) -> dict[str, Any]:
    """The options of a schedule that differ from their default."""
    options = {
        field.name: (getattr(schedule, field.name), field.default) for field in fields(schedule)
    }
    return {name: value for name, (value, default) in options.items() if value != default}


def is_plain(schedule: Any) -> bool:
    """Whether JSON can represent a schedule and all schedules among its options."""
    return KINDS.get(_kind(schedule)) is type(schedule) and all(
        is_plain(value) for value in given(schedule).values() if callable(value)
    )


def _kind(schedule: Any) -> str:
    return type(schedule).__name__.lower()


def encode(schedule: Any) -> dict[str, Any]:
    """See `Schedule.to_json`."""
    if not is_plain(schedule):
        raise TypeError(
            f"{schedule!r} cannot be converted to JSON: it calls a function or a class that is not "
            "part of thalweg.schedule"
        )
    return {
        "schedule": _kind(schedule),
        **{name: _plain(value) for name, value in given(schedule).items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [list(pair) for pair in value]
    return encode(value) if callable(value) else value

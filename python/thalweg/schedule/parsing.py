"""Schedules from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from thalweg.errors import unfitting
from thalweg.schedule.plain import KINDS

if TYPE_CHECKING:
    from thalweg.schedule.base import Schedule

__all__ = ["from_json"]


def from_json(value: Mapping[str, Any]) -> Schedule:
    """Make a schedule from a result of `Schedule.to_json`.

    Parameters
    ----------
    value : mapping
        ``{"schedule": name, option: value, ...}``; options that are schedules are mappings too.

    Returns
    -------
    Schedule
        Equal to the schedule that `to_json` wrote.

    Raises
    ------
    ValueError
        If `value` does not describe a schedule; the message gives the reason.

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
        raise ValueError(  # noqa: TRY004 - invalid JSON is a wrong value, whatever its type
            f"a schedule in JSON must be a mapping with the key 'schedule', got {value!r}"
        )
    kind = value["schedule"]
    if kind not in KINDS:
        raise ValueError(f"schedule must be one of {', '.join(KINDS)}, got {kind!r}")
    known = fields(KINDS[kind])
    unknown = [key for key in value if key not in {"schedule", *(field.name for field in known)}]
    missing = [f.name for f in known if f.default is MISSING and f.name not in value]
    if unknown or missing:
        raise ValueError(
            f"the options of schedule {kind!r} do not fit{unfitting(missing, unknown)}"
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

"""State dicts: state and settings of an optimizer as plain dicts, numbers and arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.compact.decoding import LOW, is_encoded, narrow_name
from thalweg.groups.group import values_of
from thalweg.schedule.base import Schedule
from thalweg.schedule.foreign import name_of
from thalweg.schedule.plain import is_plain
from thalweg.state.fitting import arrays_of
from thalweg.state.form import FORMAT, LOW_OF, NARROW, NEWER

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalweg import _core
    from thalweg.groups.group import Group
    from thalweg.state.attached import Counts
    from thalweg.state.held import Held

__all__ = ["formed", "record", "recorded", "snapshot", "state_dict", "together"]


def state_dict(held: Held, *, copy: bool) -> dict[str, Any]:
    """See `Optimizer.state_dict`."""
    saved: dict[str, Any] = together(held, copied if copy else lambda live: live)
    return saved


def together(held: Held, work: Callable[[dict[str, Any]], Any], *, current: bool = False) -> Any:
    """Call `work` with the state dict of live arrays; they cannot change until it returns.

    With `current`, each parameter that trains must be the array that its container holds.
    """
    attached = dict(held.attached)

    def collected(snapshots: list[Any]) -> Any:
        (counts, states), *others = snapshots
        groups = [recorded(group) for group in held.groups]
        saved = {
            name: one.saved(*snapshot)
            for (name, one), snapshot in zip(attached.items(), others, strict=True)
        }
        return work(formed(held, counts[:3], groups, states, saved))

    updaters = [one.updater for one in attached.values()]
    return held.updater.together(updaters, collected, current)


def formed(
    held: Held,
    counts: tuple[int, int, int],
    groups: list[dict[str, Any]],
    states: dict[str, Any],
    attached: dict[str, Any],
) -> dict[str, Any]:
    """A state dict of these parts. The counts are steps, skips, and skips since the last step."""
    arrays = (array for leaf in states.values() for array in arrays_of(leaf).values())
    is_narrow = any(map(is_encoded, arrays)) or any(map(NEWER.intersection, groups))
    lows = {
        name: narrow_name(held.params[name].dtype) for name, leaf in states.items() if LOW in leaf
    }
    return {
        "format": NARROW if is_narrow else FORMAT,
        "rule": held.rule.name,
        "options": dict(held.options),
        "step_count": counts[0],
        "skips": {"total": counts[1], "consecutive": counts[2]},
        "groups": groups,
        "state": states,
        "attached": attached,
        **({LOW_OF: lows} if lows else {}),
    }


def snapshot(updater: _core.Updater) -> tuple[Counts, dict[str, Any]]:
    """Counters, and copies of the state by parameter, all from the same moment."""

    def copies(snapshots: list[tuple[Counts, dict[str, Any]]]) -> Any:
        counts, states = snapshots[0]
        return counts, copied(states)

    made: tuple[Counts, dict[str, Any]] = updater.together([], copies, current=False)
    return made


def copied(saved: Any) -> Any:
    """`saved` with new dicts and copies of the arrays."""
    if isinstance(saved, dict):
        return {key: copied(value) for key, value in saved.items()}
    return np.array(saved) if isinstance(saved, np.ndarray) else saved


def recorded(group: Group) -> dict[str, Any]:
    """A group in the form in which it is saved."""
    values = {
        key: [record(v) for v in value] if key == "betas" else record(value)
        for key, value in values_of(group).items()
    }
    return {"match": list(group.names), **values}


def record(value: Any) -> Any:
    """A hyperparameter in the form in which it is saved."""
    if isinstance(value, Schedule):
        return {"schedule": value.to_json()} if is_plain(value) else {"callable": repr(value)}
    return {"callable": name_of(value)} if callable(value) else value

"""State dicts and pickles: what an optimizer remembers, as plain dicts, numbers and arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.groups.matching import Names
from thalweg.schedule.base import Schedule
from thalweg.schedule.foreign import name_of
from thalweg.schedule.plain import is_plain
from thalweg.state.form import FORMAT
from thalweg.tree import flatten

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalweg import _core
    from thalweg.groups.group import Group
    from thalweg.optimizer import Optimizer


def state_dict(opt: Optimizer, *, copy: bool) -> dict[str, Any]:
    """See `Optimizer.state_dict`."""
    saved: dict[str, Any] = together(opt, copied if copy else lambda live: live)
    return saved


def together(
    opt: Optimizer, work: Callable[[dict[str, Any]], Any], *, current: bool = False
) -> Any:
    """Call `work` with the state dict of live arrays, which nobody can change until it returns.

    With `current`, parameters that train must be the arrays their containers hold.
    """
    attached = dict(opt._attached)

    def collected(snapshots: list[Any]) -> Any:
        (counts, states), *others = snapshots
        return work(
            {
                "format": FORMAT,
                "rule": opt.rule.name,
                "options": dict(opt._options),
                "step_count": counts[0],
                "skips": {"total": counts[1], "consecutive": counts[2]},
                "groups": [_recorded(group) for group in opt.groups],
                "state": states,
                "attached": {
                    name: mirror._saved(*snapshot)
                    for (name, mirror), snapshot in zip(attached.items(), others, strict=True)
                },
            }
        )

    return opt._updater.together(
        [mirror._native for mirror in attached.values()], collected, current
    )


def snapshot(native: _core.Updater) -> tuple[_core._Counts, dict[str, Any]]:
    """Counters, and state by parameter with copies of the arrays, all of one moment."""

    def copies(snapshots: list[tuple[_core._Counts, dict[str, Any]]]) -> Any:
        counts, states = snapshots[0]
        return counts, copied(states)

    made: tuple[_core._Counts, dict[str, Any]] = native.together([], copies, current=False)
    return made


def copied(saved: Any) -> Any:
    """The same dicts with copies of the arrays."""
    if isinstance(saved, dict):
        return {key: copied(value) for key, value in saved.items()}
    return np.array(saved) if isinstance(saved, np.ndarray) else saved


def _recorded(group: Group) -> dict[str, Any]:
    values = {
        key: [record(v) for v in value] if key == "betas" else record(value)
        for key, value in group._values.items()
    }
    return {"match": list(group.names), **values}


def record(value: Any) -> Any:
    """A hyperparameter as it is saved."""
    if isinstance(value, Schedule):
        return {"schedule": value.to_json()} if is_plain(value) else {"callable": repr(value)}
    return {"callable": name_of(value)} if callable(value) else value


def pickled(opt: Optimizer) -> dict[str, Any]:
    """What `pickle` and `copy` keep: parameters and callables too, matchers as names.

    State without the array it is for is left out, or refused where that trains.
    """
    opt._updater.check_current()
    held = flatten(opt._tree)
    ours = {
        *("_tree", "_params", "_groups", "_cascade", "_options", "_revision", "_files"),
        "_states",
    }
    return {
        "params": opt._tree,
        "options": opt._options,
        "groups": [(group.names, dict(group._values)) for group in opt.groups],
        "counts": opt._updater.snapshot([])[0],
        "state": {
            name: dict(leaf)
            for name, leaf in opt.state.items()
            if held.get(name) is opt._params[name]
        },
        "attributes": {key: value for key, value in opt.__dict__.items() if key not in ours},
    }


def unpickle(opt: Optimizer, saved: dict[str, Any]) -> None:
    """Make an optimizer from what `pickled` kept."""
    (_, base), *others = saved["groups"]
    groups = [{"match": Names(tuple(names)), **values} for names, values in others]
    states = saved["state"]
    kept = {name: len(leaf) - 1 for name, leaf in states.items()}  # without the step
    opt._start(saved["params"], groups, base, saved["options"], kept)
    opt.__dict__.update(saved["attributes"])
    # A shallow copy leaves them to the original.
    attached = opt._attached.items()
    opt._attached = {name: m for name, m in attached if m.__dict__.get("_owner", opt) is opt}
    opt._updater.restore(saved["counts"], states)

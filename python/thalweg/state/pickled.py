"""Contents of copies and pickles of an optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thalweg.groups.group import values_of
from thalweg.groups.matching import Names
from thalweg.groups.rule import STATE_NAMES
from thalweg.tree import flatten

if TYPE_CHECKING:
    from thalweg.groups.rule import Rule
    from thalweg.state.held import Held

__all__ = ["pickled", "unpickle"]


def pickled(held: Held) -> dict[str, Any]:
    """Contents of a copy or pickle, parameters and callables included; matches become names.

    State whose parameter is no longer the array in the tree is left out. If that parameter trains,
    ValueError is raised.
    """
    held.updater.check_current()
    live = flatten(held.tree)
    return {
        "params": held.tree,
        "options": held.options,
        "bits": held.bits,
        "groups": [(group.names, dict(values_of(group))) for group in held.groups],
        "counts": held.updater.snapshot([])[0],
        "state": {
            name: dict(leaf)
            for name, leaf in held.state.items()
            if live.get(name) is held.params[name]
        },
        "attached": held.attached,
    }


def unpickle(held: Held, rule: Rule, saved: dict[str, Any]) -> None:
    """Restore `held` from a result of `pickled`."""
    (_, base), *others = saved["groups"]
    groups = [{"match": Names(tuple(names)), **values} for names, values in others]
    states = saved["state"]
    kept = {name: sum(key in STATE_NAMES for key in leaf) for name, leaf in states.items()}
    bits = Names(tuple(sorted(saved["bits"]))) if saved["bits"] else ()
    held.start(
        rule,
        saved["params"],
        groups,
        base,
        options=saved["options"],
        bfloat16=bits,
        trained=kept,
    )
    # After a shallow copy, attached objects stay with the original.
    held.attached = {name: one for name, one in saved["attached"].items() if one.is_of(held)}
    held.updater.restore(saved["counts"], states)

"""Hyperparameters of groups: validation, and the values that result from several groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg import _core
from thalweg.errors import check_flag, did_you_mean, typed
from thalweg.groups.rule import rules_with
from thalweg.groups.spellings import SPELLINGS, hints
from thalweg.schedule.base import Schedule

if TYPE_CHECKING:
    from thalweg.groups.rule import Rule
    from thalweg.numbers import Kept

__all__ = [
    "DECAYS",
    "FORMATS",
    "GROUP_KEYS",
    "check_number",
    "check_value",
    "native",
    "other_decay",
    "resolve",
    "unknown_argument",
]

DECAYS = ("weight_decay", "l2")

GROUP_KEYS = ("lr_scale", "frozen", "name", "state", "rows", "row_steps")

FORMATS = ("state", "row_steps")
"""Keys that decide which arrays a parameter's state has; they are fixed with it."""


def check_value(rule: Rule, key: str, value: Any) -> Any:
    """`value`, checked and converted, as a group keeps it.

    Raises
    ------
    TypeError
        For a key that the rule does not have, or a value of the wrong type.
    ValueError
        For a value out of range.
    """
    if key == "name":
        if not isinstance(value, str):
            raise TypeError(f"name must be a string, got {typed(value)}")
        return value
    if key == "state":
        return _core.check_state_format(value)
    if key == "rows":
        return _core.check_rows(value)
    if key in ("frozen", "row_steps"):
        check_flag(key, value, bool | np.bool_)
        return bool(value)
    if key == "betas" and key in rule.keys:
        scalar = isinstance(value, str) or (isinstance(value, np.ndarray) and value.ndim == 0)
        if scalar or not isinstance(value, Sequence | np.ndarray):
            raise TypeError(f"betas must be two numbers or callables, got {value!r}")
        if len(value) != 2:
            raise ValueError(f"betas must be two numbers or callables, got {value!r}")
        return tuple(check_number(f"betas[{i}]", beta) for i, beta in enumerate(value))
    if key == "lr_scale" or key in (*rule.keys, *rule.optional):
        return check_number(key, value)
    raise TypeError(_unknown_key(rule, key))


def _unknown_key(rule: Rule, key: str) -> str:
    """Message for a key that a group cannot set."""
    if key in rule.options:
        return f"{key!r} applies to all parameters; pass it to {rule.name}(...)"
    return _unknown(rule, key, [*rule.keys, *rule.optional, *GROUP_KEYS])


def unknown_argument(rule: Rule, key: str, known: Sequence[str]) -> str:
    """Message for an argument that a constructor does not take."""
    if key in GROUP_KEYS:
        return f"{key!r} is a key of a group: groups=[{{'match': ..., {key!r}: ...}}]"
    return _unknown(rule, key, known)


def _unknown(rule: Rule, key: str, known: Sequence[str]) -> str:
    message = f"{rule.name} has no {key!r}"
    if key in DECAYS:
        return f"{message}: {other_decay(rule, key)}"
    if key in hints():
        return f"{message}: {hints()[key]}"
    ours = SPELLINGS.get(key, "")
    hint = did_you_mean(ours if ours in known else str(key), known)
    return f"{message}; it has {', '.join(known)}{hint}"


def other_decay(rule: Rule, key: str) -> str:
    """The part of a message about a kind of decay that the rule lacks."""
    *others, last = rules_with(key)
    return f"its decay is {rule.decay!r}; {key!r} is for {', '.join(others)} and {last}"


def check_number(key: str, value: Any) -> Kept:
    """`value` as a number in range, or a callable of the step.

    Raises
    ------
    TypeError, ValueError
        For a wrong type, a schedule class instead of an instance, or a number out of range.
    """
    if isinstance(value, type) and issubclass(value, Schedule):
        name = value.__name__
        raise TypeError(
            f"{key} must be a number or a callable, got the class {name}; make a schedule "
            f"of it (schedule.{name}(...))"
        )
    return value if callable(value) else _core.check_hyperparameter(key, value)


def resolve(matching: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Values that result from groups in order: the last one that sets a key wins.

    ``lr_scale`` is the tuple of all factors.
    """
    resolved: dict[str, Any] = {
        "frozen": False,
        "state": "full",
        "rows": None,
        "row_steps": False,
    }
    for values in matching:
        resolved.update(values)
    resolved.pop("name", None)
    resolved["lr_scale"] = tuple(v["lr_scale"] for v in matching if "lr_scale" in v)
    return resolved


def native(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """`betas` split into ``betas[0]`` and ``betas[1]``, the core's names."""
    flat = {key: value for key, value in resolved.items() if key != "betas"}
    if "betas" in resolved:
        flat["betas[0]"], flat["betas[1]"] = resolved["betas"]
    return flat

"""Parameter groups of torch: their parameters, and checks of options that groups must share."""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

PLAIN = {bool, float, int, str, type(None)}
"""Types whose values cannot change in place."""


def named(groups: list[dict[str, Any]]) -> list[tuple[str, Any, int]]:
    """Unique name, tensor and number of the group of each parameter, without repetition."""
    found: dict[str, tuple[str, Any, int]] = {}
    known: set[int] = set()
    for number, group in enumerate(groups):
        names = group.get("param_names", ())
        for position, param in enumerate(group["params"]):
            if id(param) in known:
                continue
            known.add(id(param))
            where = f'param_groups[{number}]["params"][{position}]'
            name = names[position] if names else where
            if name in found:
                name = f"{name} ({where})"
            found[name] = (name, param, number)
    return [*found.values()]


def _same(groups: list[dict[str, Any]], key: str) -> bool:
    """The value of an option that all groups must share.

    Raises
    ------
    ValueError
        If groups differ.
    """
    first = groups[0][key]
    for position, group in enumerate(groups):
        if group[key] != first:
            raise ValueError(
                f"{key} must be the same in all groups, got {first!r} in param_groups[0] and "
                f"{group[key]!r} in param_groups[{position}]; make an optimizer for each"
            )
    return bool(first)


def _check_options(groups: list[dict[str, Any]]) -> None:
    """Check that no group asks for a feature that only torch's optimizers have.

    Raises
    ------
    ValueError
        If ``capturable`` or ``differentiable`` is set.
    """
    for position, group in enumerate(groups):
        for key in ("capturable", "differentiable"):
            if group.get(key):
                raise ValueError(
                    f"{key} must be False in param_groups[{position}], got True: thalweg.torch "
                    "neither runs in CUDA graphs nor differentiates through a step; use "
                    "torch.optim for this"
                )


def common(
    groups: list[dict[str, Any]], rule: str, choice: str | None, given: dict[str, Any]
) -> dict[str, Any]:
    """Options of all groups in the form of the core.

    `choice` is the one that only `rule` has, if there is one; `given` are those that are in no
    group.

    Raises
    ------
    ValueError
        If groups differ in `choice`, or ask for a feature that only torch's optimizers have.
    """
    _check_options(groups)
    return {
        "rule": rule,
        **({choice: _same(groups, choice)} if choice else {}),
        "maximize": bool(groups[0]["maximize"]),
        **given,
    }


def given_rows(rows: str | None) -> dict[str, str]:
    """The meaning of rows as a default of groups; without it, groups have the keys of torch."""
    return {} if rows is None else {"rows": rows}


def check_params(groups: list[dict[str, Any]], members: Sequence[tuple[Any, ...]]) -> None:
    """Check that the groups still have exactly the tensors in `members`.

    Raises
    ------
    ValueError
        If they have not.
    """
    for position, group in enumerate(groups):
        params = group["params"]
        known = members[position] if position < len(members) else ()
        if len(params) != len(known) or not all(map(is_, params, known)):
            raise ValueError(
                f"param_groups[{position}]['params'] was changed; add parameters by "
                "opt.add_param_group, or make a new optimizer and load the state dict"
            )


def copied(groups: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Copies of groups and of their lists; None if a value can change in place otherwise."""
    copies = []
    for group in groups:
        copy = dict(group)
        for key, value in group.items():
            parts = value if type(value) in {list, tuple} else (value,)
            if key == "params" and parts is value:
                parts = ()
            if any(type(part) not in PLAIN for part in parts):
                return None
            if type(value) is list:
                copy[key] = [*value]
        copies.append(copy)
    return copies

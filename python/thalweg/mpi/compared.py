"""Comparison of the optimizers that the ranks have made."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg import _core
from thalweg.errors import type_name
from thalweg.state.state_dict import recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thalweg.mpi.held import ShardedHeld

__all__ = ["compare", "description"]


def description(held: ShardedHeld, leaves: int) -> dict[str, Any]:
    """What all ranks must have in common, in JSON."""
    return {
        "version of thalweg": _core.__version__,
        "rule": held.rule.name,
        "options": dict(held.options),
        "leaves": leaves,
        "parameters": [[name, *_kind(param)] for name, param in held.params.items()],
        "groups": [_without_names(recorded(group)) for group in held.groups],
        "memory order": [list(held.bounds[name]) for name in held.params],
        "read-only parameters": {
            name: zlib.crc32(array.tobytes())
            for name, array in held.arrays(writeable=False).items()
        },
    }


def _kind(param: Any) -> tuple[str, list[int]]:
    """Dtype and shape of a parameter; a frozen one may be any object."""
    if isinstance(param, np.ndarray):
        return str(param.dtype), list(param.shape)
    return type_name(param), []


def _without_names(value: Any) -> Any:
    """The same without the names of callables, which may have an address."""
    if isinstance(value, dict):
        return {k: None if k == "callable" else _without_names(v) for k, v in value.items()}
    return [_without_names(item) for item in value] if isinstance(value, list) else value


def compare(told: Sequence[dict[str, Any]]) -> None:
    """Raise ValueError if a rank has another optimizer than rank 0, with the first difference."""
    for rank, theirs in enumerate(told):
        for key, ours in told[0].items():
            if theirs[key] != ours:
                raise ValueError(_difference(rank, key, theirs[key], ours))


def _difference(rank: int, key: str, theirs: Any, ours: Any) -> str:
    if key == "parameters":
        return _other_tree(rank, theirs, ours)
    if key == "read-only parameters":
        name = next(name for name in {**ours, **theirs} if theirs.get(name) != ours.get(name))
        return (
            f"parameter {name!r} is read-only, but not with the same numbers on rank {rank} and "
            "rank 0; give all ranks the same array"
        )
    if key == "memory order":
        return (
            f"rank {rank} has arrays that lie in memory in another order than those of rank 0; "
            "make all of them contiguous (np.ascontiguousarray)"
        )
    if key == "groups" and len(theirs) == len(ours):
        number = next(i for i, group in enumerate(theirs) if group != ours[i])
        theirs, ours, key = theirs[number], ours[number], f"groups[{number}]"
    if isinstance(theirs, dict) and isinstance(ours, dict):
        name = next(k for k in [*theirs, *ours] if theirs.get(k) != ours.get(k))
        theirs, ours, key = theirs.get(name), ours.get(name), f"{key}: {name}"
    return f"rank {rank} has {key} {theirs!r}, rank 0 has {ours!r}"


def _other_tree(rank: int, theirs: list[Any], ours: list[Any]) -> str:
    names, others = {name: rest for name, *rest in ours}, {name: rest for name, *rest in theirs}
    for name in names:
        if name not in others:
            return f"rank {rank} has no parameter {name!r}, rank 0 has one"
    for name, kind in others.items():
        if name not in names:
            return f"rank {rank} has a parameter {name!r}, rank 0 has none"
        if kind != names[name]:
            (dtype, shape), (here, expected) = kind, names[name]
            return (
                f"parameter {name!r} is {dtype} {tuple(shape)} on rank {rank}, and {here} "
                f"{tuple(expected)} on rank 0"
            )
    return f"rank {rank} has the parameters in another order than rank 0"

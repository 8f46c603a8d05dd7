"""The tables: one row per parameter, with the norms of its arrays; and the other tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from thalweg.cli.inspect.contents import DTYPES, Tensor
from thalweg.cli.inspect.table import clean

if TYPE_CHECKING:
    from thalweg.cli.inspect.contents import Contents

NOTHING = "-"
"""The cell of a missing array."""


def names_of(contents: Contents) -> list[str]:
    """The parameters with any array in the file, in the optimizer's order."""
    parts = [contents.params or {}, contents.saved["state"]]
    parts += [mirror["state"] for mirror in contents.saved["attached"].values()]
    held = {name: None for part in parts for name in part}
    first = [name for name in contents.saved["groups"][0]["match"] if name in held]
    return list(dict.fromkeys([*first, *held]))


def arrays_of(contents: Contents, name: str) -> list[Tensor]:
    """The arrays of a parameter, the parameter first."""
    return list(_columns_of(contents, name).values())


def _columns_of(contents: Contents, name: str) -> dict[str, Tensor]:
    """Tensors of a parameter by the headings of their columns."""
    own = (contents.params or {}).get(name)
    found = {} if own is None else {"norm": own}
    found |= _arrays(contents.saved["state"].get(name, {}))
    for attached, mirror in contents.saved["attached"].items():
        arrays = _arrays(mirror["state"].get(name, {}))
        found |= {f"{clean(attached)} {key}": tensor for key, tensor in arrays.items()}
    return found


def _arrays(leaf: dict[str, Any]) -> dict[str, Tensor]:
    return {clean(key): tensor for key, tensor in leaf.items() if key != "step"}


def parameters(contents: Contents) -> list[list[str]]:
    """Heading and rows of all parameters; empty if there are none."""
    names = names_of(contents)
    found = {name: _columns_of(contents, name) for name in names}
    columns = list(dict.fromkeys(column for arrays in found.values() for column in arrays))
    rows = [["parameter", "dtype", "shape", "elements", "step", *columns]]
    for name, arrays in found.items():
        step = contents.saved["state"].get(name, {}).get("step")
        rows.append(
            [
                clean(name),
                *_form(next(iter(arrays.values()), None)),
                NOTHING if step is None else f"{step:,}",
                *(_norm(contents, arrays.get(column)) for column in columns),
            ]
        )
    return rows if names else []


def others(contents: Contents) -> list[list[str]]:
    """Heading and rows of tensors that belong to no parameter; empty if there are none."""
    used = {tensor.name for name in names_of(contents) for tensor in arrays_of(contents, name)}
    rows = [
        [
            clean(tensor.name),
            *_form(tensor, contents.cast.get(tensor.name)),
            _norm(contents, tensor),
        ]
        for tensor in contents.tensors.values()
        if tensor.name not in used
    ]
    return [["tensor", "dtype", "shape", "elements", "norm"], *rows] if rows else []


def _form(tensor: Tensor | None, cast: Any = None) -> list[str]:
    """Dtype, shape and number of elements."""
    if tensor is None:
        return [NOTHING] * 3
    dtype, shape = DTYPES.get(tensor.kind), tensor.shape
    if cast is not None:
        shape = shape[:-1] if cast.kind == "c" else shape  # without the axis of the parts
        dtype = cast
    name = clean(tensor.kind) if dtype is None else dtype.name
    return [name, str(shape), f"{math.prod(shape):,}"]


def _norm(contents: Contents, tensor: Tensor | None) -> str:
    norm = None if tensor is None else contents.norm(tensor)
    return NOTHING if norm is None else f"{norm:.6g}"

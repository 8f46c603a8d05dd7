"""``optimizer.json``: the description of the model whose arrays are in a directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.disk.writing import naming
from thalweg.errors import itemized
from thalweg.mapped.memmap import file_place, memmap_below
from thalweg.mapped.progress import FORMAT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["described", "read_told", "refuse_others"]


def read_told(path: Path) -> dict[str, Any]:
    """The description in a directory, of any model.

    Raises
    ------
    ValueError
        If it has another form.
    """
    try:
        with naming(path):
            told = json.loads(path.read_bytes())
        fits = (
            told["format"] == FORMAT
            and isinstance(told["model"], dict)
            and isinstance(told["parameters"], dict)
        )
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise ValueError(
            f"{path} must have format {FORMAT}, which this version of thalweg reads; use another "
            "directory"
        )
    return dict(told)


def refuse_others(
    directory: Path,
    told: Mapping[str, Any],
    model: Mapping[str, Any],
    leaves: Mapping[str, Any],
) -> None:
    """Refuse a model that differs from the description, and list the differences.

    Raises
    ------
    ValueError
        If anything differs.
    """
    saved, found = told["model"], []
    for key, here in model.items():
        if saved.get(key) != here:
            found.append(f"{key}: saved {saved.get(key)!r}, here {here!r}")
    there = told["parameters"]
    found += [f"unexpected: {name!r}" for name in there.keys() - leaves]
    found += [f"missing: {name!r}" for name in leaves.keys() - there]
    for name in sorted(there.keys() & leaves):
        before, leaf = there[name], leaves[name]
        if before is not None and isinstance(leaf, np.ndarray):
            now = described(directory, leaf)
            found += [
                f"{key} of parameter {name!r}: saved {before[key]!r}, here {now[key]!r}"
                for key in before.keys() & now
                if before[key] != now[key]
            ]
    if found:
        raise ValueError(
            itemized(
                f"state_dir {directory} belongs to another optimizer; nothing was loaded",
                sorted(found),
            )
        )


def described(directory: Path, array: NDArray[Any]) -> dict[str, Any]:
    """Shape and dtype of an array; also file and offset if it maps a file of the directory."""
    found: dict[str, Any] = {"shape": list(array.shape), "dtype": array.dtype.str}
    mapped, place = memmap_below(array), file_place(array)
    if mapped is not None and mapped.filename is not None and place is not None:
        file = Path(mapped.filename).resolve()
        if file.is_relative_to(directory):
            found["file"] = file.relative_to(directory).as_posix()
            found["offset"] = place[2] + array.__array_interface__["data"][0]
    return found

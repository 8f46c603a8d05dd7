"""State dicts inside a larger checkpoint, which a program saved for a whole training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from thalweg.groups.matching import some

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["hint"]

DEPTH = 3
"""Levels to search: Lightning's ``["optimizer_states"][0]`` has two, and one more is allowed."""


def hint(saved: Any, fits: Callable[[Any], bool]) -> str:
    """Text for a message: the entries of `saved` that are state dicts; empty if there are none."""
    found = _inside(saved, fits, DEPTH)
    if not found:
        return ""
    return f"; it looks like a whole checkpoint: pass {some(found, ' or ')}"


def _inside(
    saved: Any, fits: Callable[[Any], bool], depth: int, path: str = "checkpoint"
) -> list[str]:
    found: list[str] = []
    pairs = saved.items() if isinstance(saved, Mapping) else enumerate(saved)
    for key, value in pairs:
        if not isinstance(value, Mapping | list | tuple):
            continue
        place = f'{path}["{key}"]' if isinstance(key, str) else f"{path}[{key!r}]"
        if fits(value):
            found.append(place)
        elif depth > 1:
            found += _inside(value, fits, depth - 1, place)
    return found

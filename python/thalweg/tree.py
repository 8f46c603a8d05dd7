"""Trees of arrays as flat dicts of names, and back.

A tree is an array, or a mapping, list, tuple or namedtuple of trees. A leaf's name is its path
joined with dots: ``layers.0.w``. An array that is the whole tree has the name ``0``. None is not a
leaf.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from thalweg import _core
from thalweg.errors import unfitting

__all__ = ["flatten", "unflatten"]


def flatten(tree: Any) -> dict[str, Any]:
    """Leaves of `tree` by name, in the order of the tree.

    Raises
    ------
    TypeError
        For a key that is neither a string nor an integer.
    ValueError
        For two leaves with the same name, or more than 200 levels.

    Examples
    --------
    >>> flatten({"layers": [{"w": 1, "b": 2}], "scale": None})
    {'layers.0.w': 1, 'layers.0.b': 2}
    """
    return _core.flatten(tree)


def unflatten(flat: Mapping[str, Any], like: Any) -> Any:
    """A tree with the structure of `like` and the leaves of `flat`.

    Mappings become dicts; lists, tuples and namedtuples keep their type.

    Raises
    ------
    TypeError
        If `flat` is no mapping.
    ValueError
        If the names differ from those of `like`.

    Examples
    --------
    >>> unflatten({"a.0": 10, "a.1": 20}, like={"a": (1, 2)})
    {'a': (10, 20)}
    """
    if not isinstance(flat, Mapping):
        raise TypeError(f"flat must be a mapping of names to leaves, got {flat!r}")
    names = flatten(like)
    if names.keys() != flat.keys():
        missing = [name for name in names if name not in flat]
        extra = [name for name in flat if name not in names]
        raise ValueError(f"the names do not fit the tree{unfitting(missing, extra)}")
    return _rebuild(like, iter([flat[name] for name in names]))


def _rebuild(like: Any, leaves: Iterator[Any]) -> Any:
    if like is None:
        return None
    if isinstance(like, Mapping):
        return {key: _rebuild(child, leaves) for key, child in like.items()}
    if isinstance(like, list):
        return [_rebuild(child, leaves) for child in like]
    if isinstance(like, tuple):
        children = [_rebuild(child, leaves) for child in like]
        return type(like)(*children) if hasattr(like, "_fields") else tuple(children)
    return next(leaves)

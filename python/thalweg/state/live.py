"""Live views of an optimizer's state, by parameter, with lookup on access."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thalweg import _core

__all__ = ["States"]


class Owner(Protocol):
    """The part of `Held` that the views use."""

    params: dict[str, Any]
    updater: _core.Updater


class States(Mapping[str, "LeafState"]):
    """State of the parameters that have trained, in the order of the tree."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def __getitem__(self, name: str) -> LeafState:
        owner = self._owner
        arrays = owner.updater.state(name) if name in owner.params else None
        if arrays is None:
            raise KeyError(f"{name!r} has no state: it never trained, or is not a parameter")
        return LeafState(owner, name, arrays)

    def __iter__(self) -> Iterator[str]:
        owner = self._owner
        return (name for name in owner.params if owner.updater.state(name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


class LeafState(Mapping[str, Any]):
    """State of one parameter: its step and its arrays."""

    __slots__ = ("_arrays", "_name", "_owner")

    def __init__(self, owner: Owner, name: str, arrays: dict[str, NDArray[Any]]) -> None:
        self._owner = owner
        self._name = name
        self._arrays = arrays

    def __getitem__(self, key: str) -> Any:
        return self._owner.updater.leaf_step(self._name) if key == "step" else self._arrays[key]

    def __iter__(self) -> Iterator[str]:
        yield "step"
        yield from self._arrays

    def __len__(self) -> int:
        return 1 + len(self._arrays)

    def __repr__(self) -> str:
        return repr(dict(self))

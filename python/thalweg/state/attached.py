"""Interfaces of objects attached to an optimizer: accumulators and averages.

They follow the parameters that it trains, and are saved and loaded with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thalweg import _core

__all__ = ["Attached", "Counts", "Planned"]

Counts: TypeAlias = tuple[int, int, int, float]
"""Steps, skips, skips since the last step, and the total weight of an accumulator."""


class Planned(Protocol):
    """Planned loading of one attached object, with the differences that were found."""

    differences: list[str]
    fits: bool
    """False if nothing can be loaded; if True, only the entries that differ are left out."""
    changed: tuple[Any, Any] | None
    """The present decay and the saved one, if they differ."""

    def prepared(self) -> tuple[_core.Updater, Counts, dict[str, Any]]:
        """Make missing arrays; return the native object, and counters and state to load into it."""

    def undo(self) -> None:
        """Drop the arrays that `prepared` made, after loading failed."""

    def finish(self) -> None:
        """Set the values that are not arrays."""


class Attached(Protocol):
    """Object attached to an optimizer."""

    updater: _core.Updater

    def is_of(self, owner: object) -> bool:
        """Whether it follows `owner`, a `Held`; True while its own owner is not unpickled yet."""

    def follow(self) -> None:
        """Add arrays for parameters that now train."""

    def saved(self, counts: Counts, state: dict[str, Any]) -> dict[str, Any]:
        """The object's entry in a state dict, from a snapshot."""

    def plan(self, saved: Any, members: Mapping[str, Any], *, use_saved: bool) -> Planned:
        """Plan the loading of `saved`; `members` are the parameters that train afterwards.

        With `use_saved`, the saved hyperparameters replace the present ones.
        """

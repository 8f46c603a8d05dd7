"""What follows an optimizer, and is saved and loaded with it: sums of gradients, averages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thalweg import _core

__all__ = ["Attached", "Counts", "Planned"]

Counts: TypeAlias = tuple[int, int, int, float]
"""Steps, skips, skips since the last step; the weight of sums."""


class Planned(Protocol):
    """What loading would do to something attached, or what stands against it."""

    differences: list[str]
    fits: bool
    """False if nothing of it can be taken over; else what differs is left out."""
    changed: tuple[Any, Any] | None
    """The decay here and the one that was saved, if they differ."""

    def prepared(self) -> tuple[_core.Updater, Counts, dict[str, Any]]:
        """What is to take over state, and the state, once there are arrays for it."""

    def undo(self) -> None:
        """Forget arrays that were made for what could not be loaded."""

    def finish(self) -> None:
        """Set what is no array."""


class Attached(Protocol):
    """Something attached to an optimizer."""

    updater: _core.Updater

    def is_of(self, owner: object) -> bool:
        """Whether it follows what this optimizer holds, as far as is known yet."""

    def follow(self) -> None:
        """Take in parameters that train by now."""

    def saved(self, counts: Counts, state: dict[str, Any]) -> dict[str, Any]:
        """What is saved, from a snapshot."""

    def plan(self, saved: Any, members: Mapping[str, Any], *, others: bool) -> Planned:
        """What loading would do, with these parameters training.

        With `others` the saved hyperparameters count.
        """

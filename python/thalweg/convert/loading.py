"""What another library saved, loaded as a state dict of thalweg, whose checks all apply."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg import _core
from thalweg.state.form import FORMAT, STEP_LIMIT
from thalweg.state.report import LoadReport

if TYPE_CHECKING:
    from thalweg.state.held import Held

__all__ = ["ConvertReport", "Found", "checked_count", "is_count", "zeros"]


@dataclass(frozen=True)
class ConvertReport(LoadReport):
    """What taking over a state of another library did: a `LoadReport`, and how it was read."""

    names: tuple[str, ...] = ()
    """Names of the parameters here, in the order of the other library."""
    ignored: dict[str, Any] = field(default_factory=dict)
    """Entries that have no counterpart and change no number, by where they are."""


@dataclass
class Found:
    """What was read, under the names of the parameters here."""

    state: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Arrays and step of each parameter."""
    names: list[str] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    """In the form of a state dict; none where hyperparameters stay as they are."""
    mismatched: list[str] = field(default_factory=list)
    ignored: dict[str, Any] = field(default_factory=dict)

    def state_dict(self, held: Held, step_count: int | None) -> dict[str, Any]:
        """As the optimizer would have saved it.

        Sums and averages are no part of it: whoever loads it leaves them as they are.
        """
        steps = [leaf["step"] for leaf in self.state.values() if is_count(leaf["step"])]
        first = {"match": self.names}
        return {
            "format": FORMAT,
            "rule": held.rule.name,
            "options": dict(held.options),
            "step_count": max([0, *steps]) if step_count is None else step_count,
            "skips": {"total": 0, "consecutive": 0},
            "groups": self.groups or [first],
            "state": self.state,
            "attached": {},
        }

    def report(self, loaded: LoadReport) -> ConvertReport:
        """The same for users."""
        return ConvertReport(
            step=loaded.step,
            missing=loaded.missing,
            unexpected=loaded.unexpected,
            mismatched=loaded.mismatched,
            changed=loaded.changed,
            names=tuple(self.names),
            ignored=self.ignored,
        )


def is_count(value: Any) -> bool:
    """Whether it can be a number of steps; what is not is refused where it is compared."""
    return type(value) is int and 0 <= value < STEP_LIMIT


def zeros(held: Held, name: str, step: int = 0) -> dict[str, Any] | None:
    """State of a parameter that has no history, or None if it has no state here either."""
    live = held.updater.state(name)
    if live is None:
        return None
    return {
        **{key: np.broadcast_to(a.dtype.type(0), a.shape) for key, a in live.items()},
        "step": step,
    }


def checked_count(step_count: int | None) -> int | None:
    """The number of steps that a caller gives."""
    return None if step_count is None else _core.check_whole("step_count", step_count, 0)

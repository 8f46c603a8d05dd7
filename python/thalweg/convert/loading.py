"""State of another library as a state dict of thalweg, so that all checks of loading apply."""

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
    """A `LoadReport` of a conversion, with the names used and the entries ignored."""

    names: tuple[str, ...] = ()
    """Names of our parameters, in the order of the other library."""
    ignored: dict[str, Any] = field(default_factory=dict)
    """Entries without a counterpart, which change no number, by their path."""


@dataclass
class Found:
    """The converted state, by the names of our parameters."""

    state: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Arrays and step of each parameter."""
    names: list[str] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    """Groups in the form of a state dict; empty if hyperparameters stay unchanged."""
    mismatched: list[str] = field(default_factory=list)
    ignored: dict[str, Any] = field(default_factory=dict)

    def state_dict(self, held: Held, step_count: int | None) -> dict[str, Any]:
        """The state dict that the optimizer would have saved, without sums and averages.

        Load it with `Origin.foreign` set, so that those of the optimizer stay unchanged.
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
        """The report of the conversion, from the report of loading."""
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
    """Whether `value` is a valid number of steps; the comparison of state dicts refuses others."""
    return type(value) is int and 0 <= value < STEP_LIMIT


def zeros(held: Held, name: str, step: int = 0) -> dict[str, Any] | None:
    """Zero state for a parameter without a history, or None if it has no state here."""
    live = held.updater.state(name)
    if live is None:
        return None
    return {
        **{key: np.broadcast_to(a.dtype.type(0), a.shape) for key, a in live.items()},
        "step": step,
    }


def checked_count(step_count: int | None) -> int | None:
    """The caller's number of steps, checked; None stays None."""
    return None if step_count is None else _core.check_whole("step_count", step_count, 0)

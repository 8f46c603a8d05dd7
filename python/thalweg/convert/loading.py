"""State of another library as a state dict of thalweg, so that all checks of loading apply."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thalweg import _core
from thalweg.state.form import STEP_LIMIT
from thalweg.state.loading import Origin, load_state_dict
from thalweg.state.report import LoadReport
from thalweg.state.state_dict import formed

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

    def load(
        self,
        held: Held,
        step_count: int | None,
        *,
        hyperparameters: Literal["saved", "current"],
        strict: bool,
    ) -> ConvertReport:
        """Load the state dict that the optimizer would have saved, without sums and averages.

        Those of the optimizer stay unchanged.
        """
        steps = [leaf["step"] for leaf in self.state.values() if is_count(leaf["step"])]
        count = max([0, *steps]) if step_count is None else step_count
        groups = self.groups or [{"match": self.names}]
        loaded = load_state_dict(
            held,
            formed(held, (count, 0, 0), groups, self.state, {}),
            hyperparameters=hyperparameters,
            strict=strict,
            origin=Origin(foreign=self.mismatched, stacklevel=4),
        )
        return ConvertReport(**vars(loaded), names=tuple(self.names), ignored=self.ignored)


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

"""What loading did, as users are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["LoadReport"]


@dataclass(frozen=True)
class LoadReport:
    """What loading a state dict did."""

    step: int
    """Number of steps taken by the optimizer that was saved."""
    extra: Any = None
    """What the user saved along with it."""
    missing: tuple[str, ...] = ()
    """Parameters that train and that nothing was saved of; names of accumulators and averages."""
    unexpected: tuple[str, ...] = ()
    """Saved names that are no parameter, or a frozen one that could not train as it is."""
    mismatched: tuple[str, ...] = ()
    """Saved entries that do not fit, each with both sides."""
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """Hyperparameters that changed: old value and new."""

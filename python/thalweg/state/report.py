"""The report of loading."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["LoadReport"]


@dataclass(frozen=True)
class LoadReport:
    """Result of loading a state dict or checkpoint."""

    step: int
    """Number of steps that the saved optimizer had taken."""
    extra: Any = None
    """Data that the user saved with it."""
    missing: tuple[str, ...] = ()
    """Names without a saved entry: parameters that train, accumulators, averages."""
    unexpected: tuple[str, ...] = ()
    """Saved names without a counterpart here, or of a frozen parameter that could not train."""
    mismatched: tuple[str, ...] = ()
    """Saved entries that do not fit, each with the saved and the present side."""
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """Hyperparameters that changed: old value and new value."""

"""What a rule is told by: its name, its hyperparameters, its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OPTIONS", "STRUCTURAL", "Rule", "native_options"]

STRUCTURAL = ("amsgrad", "nesterov", "independent", "maximize")
"""Options that are part of the trajectory; ``nonfinite`` is not, and stays the constructor's."""

OPTIONS = (*STRUCTURAL, "nonfinite")


@dataclass(frozen=True)
class Rule:
    """What an optimizer class has: its name and the keys of its hyperparameters."""

    name: str
    keys: tuple[str, ...]

    @property
    def decay(self) -> str:
        """The key of its decay."""
        return "weight_decay" if "weight_decay" in self.keys else "l2"

    @property
    def options(self) -> tuple[str, ...]:
        """What its constructor takes that holds for all parameters."""
        own = {"amsgrad": "betas", "nesterov": "momentum", "independent": "weight_decay"}
        return tuple(key for key in OPTIONS if own.get(key, "lr") in self.keys)


def native_options(rule: Rule, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the core takes them.

    Raises
    ------
    TypeError
        For another type.
    """
    for key in STRUCTURAL:
        if not isinstance(options[key], bool):
            raise TypeError(f"{key} must be True or False, got {options[key]!r}")
    if not isinstance(options["nonfinite"], str):
        raise TypeError(f"nonfinite must be a string, got {options['nonfinite']!r}")
    return {"adam": "betas" in rule.keys, **options}

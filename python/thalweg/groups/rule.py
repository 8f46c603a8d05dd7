"""Rows of the native table of rules: hyperparameters, options of the formula, state arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg import _core
from thalweg.errors import check_flag

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["STATE_NAMES", "Rule", "rules_with", "structural"]

TABLE = _core.rules()

OPTIONAL = ("update_rms",)
"""Hyperparameters that no group needs to have; without them, their effect is off."""

STATE_NAMES = tuple(dict.fromkeys(name for _, _, state in TABLE.values() for name, _ in state))
"""Names of the state arrays of all rules."""


def rules_with(key: str) -> list[str]:
    """Names of the rules that have a hyperparameter."""
    return [name for name, (keys, _, _) in TABLE.items() if key in keys]


def structural(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that determine the trajectory, so a loaded state must agree in them.

    ``nonfinite`` does not; loading keeps the constructor's.
    """
    return {key: value for key, value in options.items() if key != "nonfinite"}


@dataclass(frozen=True)
class Rule:
    """The update rule of an optimizer class: a row of the native table."""

    name: str
    keys: tuple[str, ...]
    """Hyperparameters that group 0 has; ``betas`` stands for both betas."""
    optional: tuple[str, ...]
    """Hyperparameters that a group may have."""
    choices: tuple[str, ...]
    """Options of the formula, the same for all parameters."""
    state: tuple[tuple[str, str | None], ...]
    """State arrays, each with the option or hyperparameter that must not be 0; None for always."""

    @classmethod
    def named(cls, name: str) -> Rule:
        """The row with this name."""
        hyperparameters, choices, state = TABLE[name]
        known = dict.fromkeys(key.partition("[")[0] for key in hyperparameters)
        keys = tuple(key for key in known if key not in OPTIONAL)
        optional = tuple(key for key in known if key in OPTIONAL)
        return cls(name, keys, optional, tuple(choices), tuple(state))

    @property
    def decay(self) -> str:
        """The key of the rule's decay."""
        return "weight_decay" if "weight_decay" in self.keys else "l2"

    @property
    def options(self) -> tuple[str, ...]:
        """Arguments of the constructor that apply to all parameters."""
        return (*self.choices, "nonfinite")

    def chosen(self, options: Mapping[str, Any]) -> dict[str, bool]:
        """The options that are choices of this rule.

        Raises
        ------
        TypeError
            If an option is neither True nor False.
        """
        for key, value in structural(options).items():
            check_flag(key, value)
        return {key: options.get(key, False) for key in self.choices}

    def keeps(self, array: str) -> bool:
        """Whether parameters may have a state array of this name."""
        return any(name == array for name, _ in self.state)

"""Rules as the native table has them: their hyperparameters, their choices, their state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg import _core

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OPTIONS", "STATE_NAMES", "STRUCTURAL", "Rule"]

TABLE = _core.rules()

STRUCTURAL = ("amsgrad", "nesterov", "independent", "maximize")
"""Options that are part of the trajectory; ``nonfinite`` is not, and stays the constructor's."""

OPTIONS = (*STRUCTURAL, "nonfinite")

STATE_NAMES = tuple(dict.fromkeys(name for _, _, state in TABLE.values() for name, _ in state))
"""What state arrays of any rule are called."""


@dataclass(frozen=True)
class Rule:
    """What an optimizer class has: a row of the native table."""

    name: str
    keys: tuple[str, ...]
    """Its hyperparameters; ``betas`` is two of them."""
    choices: tuple[str, ...]
    """What of its formula is chosen for all parameters."""
    state: tuple[tuple[str, str | None], ...]
    """Its state arrays, and what has to be chosen or not 0 for a parameter to have one."""

    @classmethod
    def named(cls, name: str) -> Rule:
        """The row of that name."""
        hyperparameters, choices, state = TABLE[name]
        keys = dict.fromkeys(key.partition("[")[0] for key in hyperparameters)
        return cls(name, tuple(keys), tuple(choices), tuple(state))

    @property
    def decay(self) -> str:
        """The key of its decay."""
        return "weight_decay" if "weight_decay" in self.keys else "l2"

    @property
    def options(self) -> tuple[str, ...]:
        """What its constructor takes that holds for all parameters."""
        return (*self.choices, "nonfinite")

    def chosen(self, options: Mapping[str, Any]) -> dict[str, bool]:
        """Of the options those that are part of the formula.

        Raises
        ------
        TypeError
            For one that is neither True nor False.
        """
        for key in STRUCTURAL:
            if not isinstance(options[key], bool):
                raise TypeError(f"{key} must be True or False, got {options[key]!r}")
        return {key: options[key] for key in self.choices}

    def keeps(self, array: str) -> bool:
        """Whether parameters may have a state array of this name."""
        return any(name == array for name, _ in self.state)

    def state_names(self, options: Mapping[str, Any], values: Mapping[str, Any]) -> set[str]:
        """The state arrays of a parameter with these hyperparameters."""
        given = {**values, **options}
        return {name for name, needs in self.state if needs is None or given[needs] != 0}

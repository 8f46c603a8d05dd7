"""Hyperparameters in the form of other libraries: numbers at one step, per parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thalweg import _core
from thalweg.groups.group import values_of
from thalweg.groups.values import native, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thalweg.state.held import Held

__all__ = ["Values"]


class Values:
    """The hyperparameters of each parameter at a step; callables are called once per class."""

    def __init__(self, held: Held, step: int) -> None:
        self.held, self.step = held, step
        self.known: dict[tuple[int, ...], dict[str, Any]] = {}

    def _resolved(self, name: str) -> dict[str, Any]:
        groups = self.held.groups
        resolved = resolve([values_of(groups[i]) for i in self.held.cascade.matching(name)])
        others = {"frozen", "state", "rows", "row_steps"}
        return {key: value for key, value in native(resolved).items() if key not in others}

    def plain(self, name: str) -> bool:
        """Whether no hyperparameter of the parameter is a callable."""
        resolved = self._resolved(name)
        return not any(map(callable, [*resolved.pop("lr_scale"), *resolved.values()]))

    def of(self, name: str) -> dict[str, Any]:
        """Hyperparameters of one parameter, with ``lr_scale`` multiplied into ``lr``."""
        matching = self.held.cascade.matching(name)
        if matching not in self.known:
            self.known[matching] = _numbers(self._resolved(name), self.step)
        return self.known[matching]


def _numbers(resolved: Mapping[str, Any], step: int) -> dict[str, Any]:
    numbers = {key: _at(key, v, step) for key, v in resolved.items() if key != "lr_scale"}
    for scale in resolved["lr_scale"]:  # in the order of a step, for the same bits
        numbers["lr"] *= _at("lr_scale", scale, step)
    if "betas[0]" not in numbers:
        return numbers
    betas = (numbers.pop("betas[0]"), numbers.pop("betas[1]"))
    return {**numbers, "betas": betas}


def _at(key: str, value: Any, step: int) -> float:
    return _core.check_hyperparameter(key, value(step) if callable(value) else value)

"""Learning rates per variable, by an optimizer with one parameter per run of equal rates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from thalweg import _core
from thalweg.groups.values import check_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from thalweg._core import StepReport
    from thalweg.numbers import Number
    from thalweg.optimizer import Optimizer

Rates: TypeAlias = "Number | Sequence[Number] | NDArray[Any]"
"""One learning rate, or one for each variable."""


class Stepper:
    """An optimizer over `x`, cut into slices where the learning rate changes."""

    def __init__(
        self, kind: type[Optimizer], x: NDArray[np.float64], hyperparameters: Mapping[str, Any]
    ) -> None:
        # A gradient that cannot be used is reported, not raised.
        options = {**hyperparameters, "nonfinite": "skip"}
        rates = each_rate(options["lr"], x.size)
        cuts = [i for i in range(1, len(rates)) if rates[i] != rates[i - 1]]
        self._parts = [slice(*ends) for ends in zip([0, *cuts], [*cuts, x.size], strict=True)]
        options["lr"] = rates[0] if rates else 0.0
        groups = [{"match": str(k), "lr": rates[i]} for k, i in enumerate(cuts, 1)]
        self._optimizer = kind([x[part] for part in self._parts], groups=groups, **options)

    def step(self, gradient: NDArray[np.float64], **limits: Any) -> StepReport:
        """Update `x`."""
        return self._optimizer.step([gradient[part] for part in self._parts], **limits)


def each_rate(lr: Any, size: int) -> list[Number]:
    """The learning rates of `size` variables, or a list with the one that all share.

    Raises
    ------
    TypeError, ValueError
        For another number of rates, or an invalid rate.
    """
    if callable(lr) or np.ndim(lr) == 0:
        return [lr]
    shape = np.shape(lr)
    if shape != (size,):
        raise ValueError(
            f"lr must be one number, or one for each of the {size} variables, got an array of "
            f"shape {shape}"
        )
    return [_rate(f"lr[{i}]", rate) for i, rate in enumerate(lr)]


def _rate(name: str, value: Any) -> Number:
    if callable(value):
        return check_number("lr", value)
    rate = _core.check_number(name, value)
    if not 0.0 <= rate < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {rate}")
    return rate

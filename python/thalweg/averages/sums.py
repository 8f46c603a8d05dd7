"""Sums of gradients, as mirrored arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from thalweg.averages.mirrored import Mirrored

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeGuard

    from thalweg.averages.mirrored import Planned

__all__ = ["Sums"]


class Sums(Mirrored):
    """Mirrored arrays with the sums of an `Accumulator`."""

    kind: ClassVar[str] = "accumulator"
    array_key: ClassVar[str] = "sum"

    def _bind(self, tree: Any) -> None:
        self.updater.bind(tree, "sum", {}, "ignore", self.bits)

    def _recorded(self) -> dict[str, Any]:
        return {"weight": self.updater.weight}

    def _plan_values(self, saved: Mapping[str, Any], planned: Planned, *, use_saved: bool) -> None:  # noqa: ARG002 - sums have no hyperparameters
        weight = saved.get("weight")
        if _is_number(weight) and 0 <= weight < math.inf:
            planned.weight = float(weight)
        else:
            planned.differences.append(f"weight must be finite and at least 0, got {weight!r}")
            planned.fits = False


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)

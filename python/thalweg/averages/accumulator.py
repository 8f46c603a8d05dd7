"""Sums of gradients over micro-batches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from thalweg import _core
from thalweg.attributes import from_the_start
from thalweg.averages.mirror import Mirror

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeGuard

    from numpy.typing import NDArray

    from thalweg.averages.mirror import Planned
    from thalweg.groups.group import Real

__all__ = ["Accumulator"]


class Accumulator(Mirror):
    """Weighted sums of gradients, in place: for batches that do not fit into memory at once.

    Each `add` is one native pass over the gradients; `step` reads the sums without a copy.

    Parameters
    ----------
    params : tree of ndarray, or Optimizer
        The parameters whose gradients are summed; sums have their shapes and dtypes. An optimizer
        stands for what it trains, also after groups are frozen or thawed, and the sums are saved
        and loaded with its state dict.
    name : str, default "accumulator"
        Under which an optimizer saves it; a later one of the same name takes its place.

    Notes
    -----
    ``s <- weight·g`` for the first gradient of a parameter and ``s <- s + weight·g`` after that,
    in the dtype of the parameter; `thalweg.reference.accumulate` gives the same bits. Gradients are
    not judged here: NaN makes the sum NaN, and the step that uses it is refused.

    Examples
    --------
    Two micro-batches of 3 and 1 samples, with gradients of their mean losses:

    >>> import numpy as np, thalweg
    >>> params = {"w": np.zeros(2)}
    >>> opt = thalweg.SGD(params, lr=1.0)
    >>> acc = thalweg.Accumulator(opt)
    >>> acc.add({"w": np.array([1.0, 2.0])}, weight=3)
    >>> acc.add({"w": np.array([5.0, 2.0])}, weight=1)
    >>> acc.weight, acc.grads["w"]
    (4.0, array([8., 8.]))
    >>> report = opt.step(acc.grads, scale=1 / acc.weight)
    >>> params["w"]
    array([-2., -2.])
    >>> acc.clear()
    """

    kind: ClassVar[str] = "accumulator"
    array_key: ClassVar[str] = "sum"

    def __init__(self, params: Any, *, name: str = "accumulator") -> None:
        super().__init__(params, name)

    @classmethod
    def _hints(cls) -> Mapping[str, str]:
        made = dict.fromkeys(
            ("weight", "grads", "count"), "add(grads, weight) and clear() change it"
        )
        return {**made, **from_the_start(cls.__name__, "params")}

    def _bind(self, tree: Any) -> None:
        self._native.bind_sums(tree)

    def add(self, grads: Any, weight: Real = 1.0) -> None:
        """Add gradients times ``weight``.

        Parameters
        ----------
        grads : tree of ndarray, or dict of names
            As for `Optimizer.step`: None skips what is below it.
        weight : float, default 1
            Above 0: how many samples or tokens the gradient is the mean of.

        Raises
        ------
        ValueError, TypeError
            As `Optimizer.step` does for gradients that do not fit; nothing is added then.
        """
        weight = _core.check_hyperparameter("weight", weight)
        self._follow()
        self._native.step(grads, scale=weight)

    @property
    def grads(self) -> dict[str, NDArray[Any] | None]:
        """The live sums by name; None where no gradient was added since `clear`."""
        steps = zip(self._native.leaf_names(), self._native.leaf_steps(), strict=True)
        return {name: self._arrays[name] if step else None for name, step in steps}

    @property
    def weight(self) -> float:
        """The weights added up. ``opt.step(acc.grads, scale=1 / acc.weight)`` takes the mean."""
        return self._native.weight

    @property
    def count(self) -> int:
        """Number of additions since `clear`."""
        return self._native.step_count

    def clear(self) -> None:
        """Begin anew. The arrays keep their numbers until the next `add` overwrites them."""
        self._native.reset()

    def _recorded(self) -> dict[str, Any]:
        return {"weight": self.weight}

    def _plan_values(self, saved: Mapping[str, Any], planned: Planned, *, others: bool) -> None:  # noqa: ARG002 - it has none
        weight = saved.get("weight")
        if _is_number(weight) and 0 <= weight < math.inf:
            planned.weight = float(weight)
        else:
            planned.differences.append(f"weight is {weight!r}")
            planned.fits = False

    def __repr__(self) -> str:
        return (
            f"Accumulator({len(self._arrays)} arrays, {self.count} added, weight {self.weight:g})"
        )


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)

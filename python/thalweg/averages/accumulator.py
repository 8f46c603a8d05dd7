"""Sums of gradients over micro-batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from thalweg import _core
from thalweg.attributes import from_the_start
from thalweg.averages.mirror import Mirror
from thalweg.averages.sums import Sums

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from thalweg.numbers import Real

__all__ = ["Accumulator"]


class Accumulator(Mirror):
    """Weighted sums of gradients, in place, for batches that do not fit into memory at once.

    Each `add` is one native pass over the gradients; a step reads the sums without a copy.

    Parameters
    ----------
    params : tree of ndarray, or Optimizer
        The parameters whose gradients are summed; sums have their shapes and dtypes. An optimizer
        stands for the parameters that it trains, also after groups are frozen or thawed, and the
        sums are saved and loaded with its state dict.
    name : str, default "accumulator"
        Key in the optimizer's state dict; a later object with the same name replaces this one.

    Notes
    -----
    ``s <- weight·g`` for the first gradient of a parameter and ``s <- s + weight·g`` after that,
    in the dtype of the parameter; `thalweg.reference.accumulate` gives the same bits. Gradients are
    not checked for NaN or infinity here: the sum becomes NaN or infinite, and a step that uses it
    is refused.

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

    kind: ClassVar[str] = Sums.kind
    array_key: ClassVar[str] = Sums.array_key

    _mirrored: Sums

    def __init__(self, params: Any, *, name: str = "accumulator") -> None:
        self._mirrored = Sums(type(self).__name__, params, name)

    @classmethod
    def _hints(cls) -> Mapping[str, str]:
        made = dict.fromkeys(
            ("weight", "grads", "count"), "add(grads, weight) and clear() change it"
        )
        return {**made, **from_the_start(cls.__name__, "params")}

    def add(self, grads: Any, weight: Real = 1.0) -> None:
        """Add gradients times `weight`.

        Parameters
        ----------
        grads : tree of ndarray, or dict of names
            As for `Optimizer.step`; a None skips its subtree. `Rows` are added to these rows of the
            sum; as the first gradient of a parameter, they set the others to zero.
        weight : float, default 1
            Above 0; for a mean gradient, its number of samples or tokens.

        Raises
        ------
        ValueError, TypeError
            As `Optimizer.step`, for gradients that do not fit; nothing is added.
        """
        weight = _core.check_hyperparameter("weight", weight)
        self._mirrored.follow()
        self._mirrored.updater.step(grads, scale=weight)

    @property
    def grads(self) -> dict[str, NDArray[Any] | None]:
        """The live sums by name; None for a parameter without a gradient since `clear`."""
        arrays, updater = self._mirrored.arrays, self._mirrored.updater
        steps = zip(updater.leaf_names(), updater.leaf_steps(), strict=True)
        return {name: arrays[name] if step else None for name, step in steps}

    @property
    def weight(self) -> float:
        """Sum of the weights. ``opt.step(acc.grads, scale=1 / acc.weight)`` uses the mean."""
        return self._mirrored.updater.weight

    @property
    def count(self) -> int:
        """Number of additions since `clear`."""
        return self._mirrored.updater.step_count

    def clear(self) -> None:
        """Start new sums. The next `add` overwrites the arrays; until then they are unchanged."""
        self._mirrored.updater.reset()

    def __repr__(self) -> str:
        arrays = len(self._mirrored.arrays)
        return f"Accumulator({arrays} arrays, {self.count} added, weight {self.weight:g})"

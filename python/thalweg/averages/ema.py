"""Exponential moving averages of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from thalweg.attributes import from_the_start
from thalweg.averages.mirror import Mirror
from thalweg.averages.moving import MovingAverages
from thalweg.errors import check_flag
from thalweg.tree import flatten, unflatten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thalweg import _core
    from thalweg.numbers import Kept, Number

__all__ = ["EMA"]


class EMA(Mirror):
    """Exponential moving average of parameters, in place; often better than the last parameters.

    ``a <- decay·a + (1-decay)·p`` at every `update`, starting from the parameters at construction.
    With bias correction, the average of the updates alone: ``e/(1 - decay^t)`` with
    ``e <- decay·e + (1-decay)·p`` from ``e = 0``.

    Parameters
    ----------
    params : tree of ndarray, or Optimizer
        The parameters to average. An optimizer stands for the parameters that it trains: those
        thawed or added later join, those frozen later stay. The average is saved and loaded with
        the optimizer's state dict.
    decay : float or callable
        In [0, 1). A callable takes the 1-based number of the update, such as
        ``lambda t: min(0.999, (1 + t) / (10 + t))``.
    bias_correction : bool, default False
        Average the updates alone, without the parameters at construction.
    name : str, default "ema"
        Key in the optimizer's state dict; a later object with the same name replaces this one.

    Notes
    -----
    The average has the dtype of its parameter. With bias correction the array holds the corrected
    average: the step ``a <- a + r·(p-a)`` with ``r = (1-decay)/(1-decay^t)`` is equivalent, without
    a division of the array. `thalweg.reference.average` gives the same bits.

    References
    ----------
    Polyak and Juditsky, *Acceleration of Stochastic Approximation by Averaging*; Kingma and Ba,
    *Adam*, section 3, for the correction.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> params = {"w": np.zeros(1)}
    >>> opt = thalweg.SGD(params, lr=1.0)
    >>> ema = thalweg.EMA(opt, decay=0.5)
    >>> for _ in range(3):
    ...     report = opt.step({"w": np.array([-1.0])})
    ...     ema.update()
    >>> params["w"], ema.params["w"]
    (array([3.]), array([2.125]))
    >>> with ema.swapped():
    ...     params["w"]
    array([2.125])
    >>> params["w"]
    array([3.])
    """

    kind: ClassVar[str] = MovingAverages.kind
    array_key: ClassVar[str] = MovingAverages.array_key

    _mirrored: MovingAverages

    def __init__(
        self,
        params: Any,
        decay: Number,
        *,
        bias_correction: bool = False,
        name: str = "ema",
    ) -> None:
        check_flag("bias_correction", bias_correction)
        self._mirrored = MovingAverages(
            type(self).__name__, params, name, decay, bias_correction=bias_correction
        )

    @classmethod
    def _ways(cls) -> Mapping[str, str]:
        decay = dict.fromkeys(("momentum", "ema_momentum", "beta"), "set ema.decay")
        return {**super()._ways(), **from_the_start(cls.__name__, "bias_correction"), **decay}

    @property
    def decay(self) -> Kept:
        """The decay, which can be set at any time: ``ema.decay = 0.9999``."""
        return self._mirrored.decay

    @decay.setter
    def decay(self, value: Number) -> None:
        self._mirrored.decay = value

    @property
    def bias_correction(self) -> bool:
        """Whether the average is of the updates alone."""
        return self._mirrored.bias_correction

    @property
    def count(self) -> int:
        """Number of updates."""
        return self._mirrored.updater.step_count

    def update(self) -> None:
        """Move the averages towards the present parameters.

        Raises
        ------
        ValueError
            If the parameters no longer fit; nothing is changed.
        BusyError
            Inside `swapped` and inside `Optimizer.open_step`.
        """
        self._mirrored.update()

    @property
    def params(self) -> Any:
        """The averages, as a tree like the parameters; other leaves are those of the parameters."""
        tree = self._mirrored.tree
        return unflatten({**flatten(tree), **self._mirrored.arrays}, like=tree)

    def swapped(self) -> _core.Swapped:
        """Context manager that swaps parameters and averages, for evaluation.

        The swap needs no additional memory. ``with ema.swapped():`` returns the parameters' tree,
        whose arrays hold the averages inside the block, while `EMA.params` holds the parameters.
        Inside, steps, updates, edits, loading and saving are refused, so that averages are not
        trained or saved by mistake.

        Raises
        ------
        ValueError
            If the parameters no longer fit; nothing is changed.
        BusyError
            Inside another such block, `ScheduleFreeAdamW.averaged` and `Optimizer.open_step`.
        """
        return self._mirrored.swapped()

    def __repr__(self) -> str:
        correction = ", bias_correction=True" if self.bias_correction else ""
        arrays = len(self._mirrored.arrays)
        return f"EMA(decay={self.decay!r}{correction}; {arrays} arrays, {self.count} updates)"

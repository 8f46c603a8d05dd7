"""Exponential moving averages of parameters, as mirrored arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from thalweg import _core
from thalweg.averages.mirrored import Mirrored
from thalweg.groups.values import check_number
from thalweg.mapped.owners import owner_of
from thalweg.state.fitting import differing, restored
from thalweg.state.state_dict import record
from thalweg.tree import flatten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from thalweg.averages.mirrored import Planned
    from thalweg.numbers import Kept, Number

__all__ = ["MovingAverages"]


class MovingAverages(Mirrored):
    """Mirrored arrays with the averages of an `EMA`."""

    kind: ClassVar[str] = "ema"
    array_key: ClassVar[str] = "average"
    keeps: ClassVar[bool] = True

    def __init__(
        self, made: str, params: Any, name: str, decay: Number, *, bias_correction: bool
    ) -> None:
        self.bias_correction = bias_correction
        self._decay = check_number("decay", decay)
        super().__init__(made, params, name)

    def _bind(self, tree: Any) -> None:
        choices = {"bias_correction": self.bias_correction}
        self.updater.bind(tree, "average", choices, "ignore", self.bits)

    def _values(self) -> dict[str, Any]:
        return {"decay": self._decay}

    def _start(self, param: NDArray[Any]) -> NDArray[Any]:
        return np.array(param, subok=False)

    @property
    def decay(self) -> Kept:
        """See `EMA.decay`."""
        return self._decay

    @decay.setter
    def decay(self, value: Number) -> None:
        value = check_number("decay", value)
        self.updater.adjust([(0, {"decay": value}), (1, {"decay": value, "frozen": True})])
        self._decay = value

    def update(self) -> None:
        """See `EMA.update`."""
        self.follow()
        if self.owner is None:
            self.updater.average(self.given)
        else:
            self.updater.average(self.owner.params, self.owner.updater)

    def swapped(self) -> _core.Swapped:
        """See `EMA.swapped`."""
        params = flatten(self.tree)
        # An optimizer that keeps a record of progress for the parameters must note the swap.
        owner = owner_of(params) if self.owner is None else self.owner
        updater = None if owner is None else owner.updater
        return _core.Swapped(self.updater, updater, params, self.tree)

    def _plan_values(self, saved: Mapping[str, Any], planned: Planned, *, use_saved: bool) -> None:
        theirs, ours = saved.get("bias_correction"), self.bias_correction
        if not isinstance(theirs, bool | np.bool_) or bool(theirs) != ours:
            planned.differences.append(differing("bias_correction", theirs, ours))
            planned.fits = False
        if not use_saved:
            return
        try:
            decay = check_number("decay", restored(saved.get("decay"), self._decay))
        except (TypeError, ValueError) as error:
            planned.differences.append(f"decay: {error}")
            return
        planned.values["decay"] = decay
        if decay != self._decay:
            planned.changed = (self._decay, decay)

    def _recorded(self) -> dict[str, Any]:
        return {"decay": record(self._decay), "bias_correction": self.bias_correction}

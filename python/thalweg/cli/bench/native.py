"""thalweg's own optimizers as contenders."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import thalweg
from thalweg.cli.bench.formulas import LR, MOMENTUM, WEIGHT_DECAY
from thalweg.cli.bench.stepper import Step
from thalweg.compact.decoding import BITS, LOW, joined

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalweg.cli.bench.formulas import Array, Arrays

adamw = partial(thalweg.AdamW, lr=LR, weight_decay=WEIGHT_DECAY)
adamw_bfloat16 = partial(adamw, state="bfloat16")
adamw_compact = partial(adamw, state="compact")
adamw_split = partial(adamw_compact, bfloat16="*")
amsgrad = partial(adamw, amsgrad=True)
plain_sgd = partial(thalweg.SGD, lr=LR)
sgd = partial(plain_sgd, momentum=MOMENTUM)


class Thalweg:
    """One of thalweg's optimizers.

    Parameters
    ----------
    make : callable
        Makes the optimizer of the parameters.
    params : dict
        The parameters, which the optimizer updates in place.
    arrange : callable, optional
        Makes of the gradients what a step is given.
    **options
        Of each step.
    """

    def __init__(
        self,
        make: Callable[[Arrays], thalweg.Optimizer],
        params: Arrays,
        *,
        arrange: Callable[[Arrays], Any] | None = None,
        **options: Any,
    ) -> None:
        self._params = params
        self._optimizer = make(params)
        self._arrange = arrange
        self._options = options

    def bind(self, grads: Arrays) -> Step:
        """Return the native call itself."""
        given = grads if self._arrange is None else self._arrange(grads)
        return Step(partial(self._optimizer.step, given, **self._options))

    def parameters(self) -> Arrays:
        """Return the arrays that are updated in place, or the numbers that they stand for."""
        leaves = self._optimizer.state.values()
        return {
            name: joined(p, leaf.get(LOW)) if p.dtype == BITS else p
            for (name, p), leaf in zip(self._params.items(), leaves, strict=True)
        }

    def written(self) -> dict[str, list[Array]]:
        """Return the live arrays of the optimizer, whose names of them may differ."""
        leaves = self._optimizer.state.values()
        return {
            name: [p, *(value for value in leaf.values() if isinstance(value, np.ndarray))]
            for (name, p), leaf in zip(self._params.items(), leaves, strict=True)
        }

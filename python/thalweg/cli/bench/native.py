"""thalweg's own optimizers as contenders."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.cli.bench.stepper import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    import thalweg
    from thalweg.cli.bench.formulas import Array, Arrays


class Thalweg:
    """One of thalweg's optimizers."""

    def __init__(
        self,
        make: Callable[[Arrays], thalweg.Optimizer],
        params: Arrays,
        *,
        max_norm: float | None = None,
    ) -> None:
        self._params = params
        self._optimizer = make(params)
        self._options: dict[str, Any] = {} if max_norm is None else {"max_norm": max_norm}

    def bind(self, grads: Arrays) -> Step:
        """Return the native call itself."""
        return Step(partial(self._optimizer.step, grads, **self._options))

    def parameters(self) -> Arrays:
        """Return the arrays that are updated in place."""
        return self._params

    def state(self) -> dict[str, list[Array]]:
        """Return the live arrays of the optimizer."""
        live = self._optimizer.state
        return {
            name: [value for value in live[name].values() if isinstance(value, np.ndarray)]
            for name in self._params
        }

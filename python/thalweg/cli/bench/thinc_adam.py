"""thinc's Adam on NumPy arrays. Only imported where thinc is installed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from thinc.optimizers import Adam

from thalweg.cli.bench.formulas import BETAS, EPS, LR, WEIGHT_DECAY
from thalweg.cli.bench.stepper import Step

if TYPE_CHECKING:
    from thalweg.cli.bench.formulas import Array, Arrays


class ThincAdam:
    """``thinc.optimizers.Adam`` with decoupled decay, without its clipping and averaging."""

    def __init__(self, params: Arrays) -> None:
        self._params = params
        self._optimizer = Adam(
            LR,
            beta1=BETAS[0],
            beta2=BETAS[1],
            eps=EPS,
            L2=WEIGHT_DECAY,
            L2_is_weight_decay=True,
            grad_clip=0.0,
            use_averages=False,
        )

    def bind(self, grads: Arrays) -> Step:
        """Return the loop over tensors; a step zeroes its gradients, so it gets copies."""
        own = {name: np.empty_like(g) for name, g in grads.items()}
        return Step(partial(self._step, own), partial(_copy, grads, own))

    def parameters(self) -> Arrays:
        """Return the arrays that are updated in place."""
        return self._params

    def written(self) -> dict[str, list[Array]]:
        """Return nothing: its limit is far away."""
        return {}

    def _step(self, grads: Arrays) -> None:
        for index, (name, p) in enumerate(self._params.items()):
            self._optimizer((index, name), p, grads[name])


def _copy(grads: Arrays, own: Arrays) -> None:
    for name, g in grads.items():
        np.copyto(own[name], g)

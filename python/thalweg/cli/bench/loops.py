"""The contenders that need only NumPy: a loop in place, and the reference."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from thalweg import reference
from thalweg.cli.bench.formulas import ADAMW, BETAS, EPS, LR, WEIGHT_DECAY, Array, Arrays, Formula
from thalweg.cli.bench.stepper import Step


class NumpyLoop:
    """AdamW as a careful user of NumPy writes it: in place, one scratch buffer, no temporaries."""

    def __init__(self, params: Arrays) -> None:
        self._params = params
        self._exp_avg = {name: np.zeros_like(p) for name, p in params.items()}
        self._exp_avg_sq = {name: np.zeros_like(p) for name, p in params.items()}
        self._scratch = np.empty(max(p.size for p in params.values()), np.float32)
        self._steps = 0

    def bind(self, grads: Arrays) -> Step:
        """Return the loop over all tensors."""
        return Step(partial(self._step, grads))

    def parameters(self) -> Arrays:
        """Return the arrays that are updated in place."""
        return self._params

    def written(self) -> dict[str, list[Array]]:
        """Return the arrays of parameters and moments."""
        return {
            name: [p, self._exp_avg[name], self._exp_avg_sq[name]]
            for name, p in self._params.items()
        }

    def _step(self, grads: Arrays) -> None:
        self._steps += 1
        scalars = {
            "step_size": LR / (1 - BETAS[0] ** self._steps),
            "correction": 1 / math.sqrt(1 - BETAS[1] ** self._steps),
        }
        for name, p in self._params.items():
            m, v = self._exp_avg[name], self._exp_avg_sq[name]
            scratch = self._scratch[: p.size].reshape(p.shape)
            _update(p, grads[name], m, v, scratch, **scalars)


def _update(
    p: Array, g: Array, m: Array, v: Array, scratch: Array, *, step_size: float, correction: float
) -> None:
    beta1, beta2 = BETAS
    m *= beta1
    np.multiply(g, 1 - beta1, out=scratch)
    m += scratch
    v *= beta2
    np.multiply(g, g, out=scratch)
    scratch *= 1 - beta2
    v += scratch
    np.sqrt(v, out=scratch)
    scratch *= correction
    scratch += EPS
    np.divide(m, scratch, out=scratch)
    scratch *= step_size
    p *= 1 - LR * WEIGHT_DECAY
    p -= scratch


class Reference:
    """`thalweg.reference` as an optimizer: what the others are checked against, and timed too."""

    def __init__(
        self, params: Arrays, rule: Formula = ADAMW, max_norm: float | None = None
    ) -> None:
        self._params = params
        self._states = {
            name: tuple(np.zeros_like(p) for _ in range(rule.states)) for name, p in params.items()
        }
        self._rule = rule
        self._max_norm = max_norm
        self._steps = 0

    def bind(self, grads: Arrays) -> Step:
        """Return the loop over all tensors."""
        return Step(partial(self.step, grads))

    def parameters(self) -> Arrays:
        """Return the newest arrays."""
        return self._params

    def written(self) -> dict[str, list[Array]]:
        """Return nothing: every step makes new arrays."""
        return {}

    def step(self, grads: Arrays) -> None:
        """Replace parameters and state by new arrays."""
        self._steps += 1
        scale = 1.0
        if self._max_norm is not None:
            scale = reference.clip_factor(grads, self._max_norm)
        for name, p in self._params.items():
            self._params[name], *state = self._rule.update(
                p, grads[name], *self._states[name], step=self._steps, scale=scale
            )
            self._states[name] = self._rule.keep(*state, step=self._steps)

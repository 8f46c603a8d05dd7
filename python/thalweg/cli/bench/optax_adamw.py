"""Optax's AdamW, compiled for the CPU. Only imported where optax is installed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from thalweg.cli.bench.formulas import BETAS, EPS, LR, WEIGHT_DECAY
from thalweg.cli.bench.stepper import Step

if TYPE_CHECKING:
    from thalweg.cli.bench.formulas import Array, Arrays

# Before JAX looks for devices: an accelerator is not measured.
jax.config.update("jax_platforms", "cpu")

ADAMW = optax.adamw(LR, b1=BETAS[0], b2=BETAS[1], eps=EPS, weight_decay=WEIGHT_DECAY)


@partial(jax.jit, donate_argnums=(0, 1))
def _update(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
    updates, state = ADAMW.update(grads, state, params)
    return optax.apply_updates(params, updates), state


class OptaxAdamW:
    """``optax.adamw``, update and addition in one compiled function with donated buffers."""

    def __init__(self, params: Arrays) -> None:
        self._params = _on_device(params)
        self._state = ADAMW.init(self._params)

    def bind(self, grads: Arrays) -> Step:
        """Copy the gradients to JAX, once."""
        return Step(partial(self._step, _on_device(grads)))

    def parameters(self) -> Arrays:
        """Return copies."""
        return {name: np.array(p) for name, p in self._params.items()}

    def written(self) -> dict[str, list[Array]]:
        """Return nothing: only JAX writes to its memory."""
        return {}

    def _step(self, grads: Any) -> None:
        self._params, self._state = _update(self._params, self._state, grads)
        jax.block_until_ready(self._params)


def _on_device(arrays: Arrays) -> Any:
    # Arrays that share memory with NumPy cannot be donated.
    return {name: jnp.array(array, copy=True) for name, array in arrays.items()}

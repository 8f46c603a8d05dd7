"""Rules agree with optax's, in float64."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg

if TYPE_CHECKING:
    from collections.abc import Callable

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

RULES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], thalweg.Optimizer]]] = {
    "nadamw": (
        lambda lr: optax.nadamw(lr, b1=0.8, b2=0.99, eps=1e-6, weight_decay=0.1),
        lambda params: thalweg.NAdamW(
            params, lr=0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1
        ),
    ),
    "adabelief": (
        lambda lr: optax.chain(
            optax.adabelief(lr, b1=0.8, b2=0.99, eps=1e-6, eps_root=1e-4),
            optax.add_decayed_weights(-0.1 * lr),
        ),
        lambda params: thalweg.AdaBelief(
            params, lr=0.01, betas=(0.8, 0.99), eps=1e-6, eps_root=1e-4, weight_decay=0.1
        ),
    ),
    "adabelief, defaults": (
        lambda lr: optax.adabelief(lr, eps=1e-15),
        lambda params: thalweg.AdaBelief(params, lr=0.01, weight_decay=0.0),
    ),
    "lion": (
        lambda lr: optax.lion(lr, b1=0.8, b2=0.95, weight_decay=0.1),
        lambda params: thalweg.Lion(params, lr=0.01, betas=(0.8, 0.95), weight_decay=0.1),
    ),
    "lion, a beta below a half": (
        lambda lr: optax.lion(lr, b1=0.3, b2=0.99, weight_decay=0.0),
        lambda params: thalweg.Lion(params, lr=0.01, betas=(0.3, 0.99), weight_decay=0.0),
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_run_ends_at_the_parameters_of_optax(rule: str) -> None:
    theirs, ours = RULES[rule]
    enable_x64 = getattr(jax, "enable_x64", None)
    if enable_x64 is None:  # an older JAX
        enable_x64 = importlib.import_module("jax.experimental").enable_x64
    rng = np.random.default_rng(0)
    shapes = {"w": (7, 5), "b": (5,)}
    params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    expected: Any = {name: p.copy() for name, p in params.items()}
    opt = ours(params)
    with enable_x64(True):
        transformation = theirs(0.01)
        state = transformation.init(expected)
        for _ in range(200):
            grads = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
            opt.step(grads)
            updates, state = transformation.update(grads, state, expected)
            expected = optax.apply_updates(expected, updates)
    for name, p in params.items():
        np.testing.assert_allclose(p, np.asarray(expected[name]), rtol=1e-12, atol=1e-12)

"""Rules agree with torch's, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg

if TYPE_CHECKING:
    from collections.abc import Callable

torch = pytest.importorskip("torch")

RULES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], thalweg.Optimizer]]] = {
    "radam": (
        lambda ps: torch.optim.RAdam(
            ps, lr=0.01, betas=(0.8, 0.99), weight_decay=0.1, decoupled_weight_decay=True
        ),
        lambda params: thalweg.RAdamW(params, lr=0.01, betas=(0.8, 0.99), weight_decay=0.1),
    ),
    "rmsprop": (
        lambda ps: torch.optim.RMSprop(ps, lr=0.01, weight_decay=0.1),
        lambda params: thalweg.RMSprop(params, lr=0.01, l2=0.1),
    ),
    "rmsprop, momentum": (
        lambda ps: torch.optim.RMSprop(ps, lr=0.01, alpha=0.9, momentum=0.8, eps=1e-6),
        lambda params: thalweg.RMSprop(params, lr=0.01, alpha=0.9, momentum=0.8, eps=1e-6),
    ),
    "rmsprop, centered, momentum": (
        lambda ps: torch.optim.RMSprop(ps, alpha=0.9, momentum=0.8, centered=True, maximize=True),
        lambda params: thalweg.RMSprop(
            params, alpha=0.9, momentum=0.8, centered=True, maximize=True
        ),
    ),
    "adagrad": (
        lambda ps: torch.optim.Adagrad(ps, lr=0.1, weight_decay=0.1),
        lambda params: thalweg.Adagrad(params, lr=0.1, l2=0.1),
    ),
    "adagrad, decay of the rate, a sum that begins above 0": (
        lambda ps: torch.optim.Adagrad(ps, lr_decay=0.1, initial_accumulator_value=0.3, eps=1e-6),
        lambda params: thalweg.Adagrad(
            params, lr_decay=0.1, initial_accumulator_value=0.3, eps=1e-6
        ),
    ),
    "radam, never rectified": (
        lambda ps: torch.optim.RAdam(ps, lr=0.01, betas=(0.9, 0.6)),
        lambda params: thalweg.RAdamW(params, lr=0.01, betas=(0.9, 0.6), weight_decay=0.0),
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_run_ends_at_the_parameters_of_torch(rule: str) -> None:
    theirs, ours = RULES[rule]
    rng = np.random.default_rng(0)
    shapes = {"w": (7, 5), "b": (5,)}
    params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    tensors = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    opt, other = ours(params), theirs(list(tensors.values()))
    for _ in range(200):
        grads = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
        opt.step(grads)
        for name, tensor in tensors.items():
            tensor.grad = torch.from_numpy(grads[name])
        other.step()
    for name, p in params.items():
        np.testing.assert_allclose(p, tensors[name].detach().numpy(), rtol=1e-12, atol=1e-12)

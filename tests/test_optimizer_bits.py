"""Optimizers have the same bits as the model, which applies the reference leaf by leaf."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import thalweg
from arrays import Array, assert_same_bits, machine
from formulas import FORMULAS
from model import Model
from rules import RULES, Options
from thalweg import reference

Grads = dict[str, "Array | None"]


def warmup(step: int) -> float:
    return 0.1 * min(1.0, step / 5)


def rising(step: int) -> float:
    return 1.0 - 0.9 / step


CASES: list[tuple[str, Options]] = [
    ("Adam", {"lr": 0.01, "l2": warmup}),
    ("Adam", {"lr": warmup, "betas": (rising, lambda t: 1 - 0.5 / t), "eps": 1e-6}),
    ("Adam", {"lr": 1e-3, "maximize": True}),
    ("AMSGrad", {"lr": 0.01, "l2": 0.1}),
    ("AdamW", {"lr": warmup, "weight_decay": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": warmup, "independent": True}),
    ("AMSGradW", {"lr": warmup, "weight_decay": 0.1, "betas": (0.3, 0.4)}),
    ("NAdamW", {"lr": warmup, "weight_decay": 0.1}),
    ("NAdamW", {"lr": 0.01, "betas": (0.3, rising), "weight_decay": 0.1, "independent": True}),
    ("RAdamW", {"lr": warmup, "weight_decay": 0.1}),
    ("RAdamW", {"lr": 0.01, "betas": (0.3, lambda t: 1 - 0.3 / t), "weight_decay": 0.01}),
    ("AdaBelief", {"lr": warmup, "weight_decay": 0.1}),
    (
        "AdaBelief",
        {"lr": 0.01, "betas": (0.3, rising), "eps_root": warmup, "weight_decay": 0.1},
    ),
    ("ScheduleFreeAdamW", {"lr": warmup, "weight_decay": 0.1, "r": 0.5}),
    (
        "ScheduleFreeAdamW",
        {"lr": 0.01, "betas": (rising, 0.3), "weight_decay": 0.1, "independent": True},
    ),
    ("Lion", {"lr": warmup, "weight_decay": 0.1}),
    ("Lion", {"lr": 0.01, "betas": (0.3, rising), "weight_decay": warmup, "independent": True}),
    ("RMSprop", {"lr": warmup, "l2": 0.1}),
    ("RMSprop, momentum", {"lr": 0.01, "alpha": 0.3, "momentum": rising, "maximize": True}),
    ("RMSprop, centered", {"lr": warmup, "alpha": rising, "eps": 1e-6}),
    ("RMSprop, both", {"lr": 0.01, "momentum": 0.5, "l2": warmup}),
    ("Adagrad", {"lr": warmup, "lr_decay": 0.1, "initial_accumulator_value": 0.1}),
    ("SGD", {"lr": warmup, "l2": 0.1, "maximize": True}),
    ("SGD, momentum", {"lr": 0.1, "momentum": rising, "dampening": warmup, "l2": 0.01}),
    ("SGD, Nesterov", {"lr": warmup, "momentum": 0.9, "nesterov": True}),
    ("SGDW", {"lr": warmup, "weight_decay": 0.1}),
    ("SGDW, momentum", {"lr": 0.1, "momentum": 0.5, "weight_decay": warmup, "independent": True}),
    ("SGDW, Nesterov", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
]

STEPS: list[tuple[float | None, float, str]] = [  # max_norm, scale, names without a gradient
    (None, 1.0, ""),
    (1.0, 1.0, "layers.0"),
    (1e9, 1 / 3, ""),
    (None, 1 / 1024, "layers.1.w"),
    (1 / 3, 0.7, "scalar"),
    (5.0, 1.0, "layers.0.w"),
]


def make_params(rng: np.random.Generator) -> dict[str, Any]:
    """A tree with every kind of leaf; one leaf is large enough for several threads."""
    return {
        "layers": [
            {"w": rng.standard_normal((7, 5)).astype(np.float32).T, "b": rng.standard_normal(5)},
            {"w": rng.standard_normal((300, 233)).astype(np.float32)[:, ::-1]},
        ],
        "scalar": np.array(0.5),
        "empty": np.zeros((0, 3), np.float32),
    }


def make_grads(rng: np.random.Generator, params: dict[str, Array], without: str) -> Grads:
    grads = {name: rng.standard_normal(p.T.shape).T for name, p in params.items()}
    grads = {n: g.astype(rng.choice(["float32", "float64"])) for n, g in grads.items()}
    return {n: None if without and n.startswith(without) else g for n, g in grads.items()}


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("level", thalweg.cpu_levels())
def test_steps_equal_the_reference(name: str, options: Options, threads: int, level: str) -> None:
    rng, rule = np.random.default_rng(0), RULES[name]
    tree = make_params(rng)
    params = thalweg.tree.flatten(tree)
    values = rule.arguments(options)
    choices = FORMULAS[rule.cls.__name__].choices
    chosen = {key: values.pop(key) for key in choices if key in values}
    model = Model(rule.cls.__name__, params, values, [], chosen)
    optimizer = rule.make(tree, **options)
    with machine(level, threads):
        for max_norm, scale, without in STEPS:
            grads = make_grads(rng, params, without)
            expected = model.step(grads, scale, max_norm=max_norm)
            report = optimizer.step(grads, max_norm=max_norm, scale=scale)
            assert (report.grad_norm, report.clip) == (expected.grad_norm, expected.clip)
            for leaf_name, leaf in model.leaves.items():
                step, *arrays = optimizer.state[leaf_name].values()
                assert step == leaf.step
                for got, x in zip(
                    [params[leaf_name], *arrays], [leaf.array, *leaf.state.values()], strict=True
                ):
                    assert_same_bits(got, x)


def test_lr_scales_are_multiplied_in_the_order_of_the_groups() -> None:
    p, g = np.zeros(3), np.array([0.1, 0.2, 0.3])
    expected = reference.sgd(p, g, None, 1, lr=0.1 * 0.3 * (1 / 3))[0]
    groups = [{"match": "*", "lr_scale": lr_scale} for lr_scale in (0.3, 1 / 3)]
    thalweg.SGD(p, lr=0.1, groups=groups).step(g)
    assert_same_bits(p, expected)

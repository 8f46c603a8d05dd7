"""The optimizers equal the reference applied by hand, leaf by leaf, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import thalweg
from arrays import Array, assert_same_bits, machine
from rules import RULES, Options, Rule
from thalweg import reference

Grads = dict[str, "Array | None"]


def at(value: Any, step: int) -> Any:
    """A hyperparameter at a step: a number, a schedule, or a tuple of them."""
    if isinstance(value, tuple):
        return tuple(at(v, step) for v in value)
    return value(step) if callable(value) else value


class ByHand:
    """What an optimizer does, in the words of the reference."""

    def __init__(self, params: dict[str, Array], rule: Rule, options: Options) -> None:
        self.rule = rule
        self.options = options
        self.count = 0
        self.steps = dict.fromkeys(params, 0)
        self.arrays = {n: [p, *[np.zeros_like(p)] * rule.states] for n, p in params.items()}

    def step(self, grads: Grads, max_norm: float | None, scale: float) -> tuple[float, float]:
        """Return norm and clip."""
        self.count += 1
        given = {n: g.astype(self.arrays[n][0].dtype) for n, g in grads.items() if g is not None}
        norm, clip = scale * reference.global_norm(given), 1.0
        if max_norm is not None:
            clip = reference.clip_factor(given, max_norm, scale)
        options = {key: at(value, self.count) for key, value in self.options.items()}
        for name, g in given.items():
            self.steps[name] += 1
            p, *state = self.arrays[name]
            now = {**options, "scale": scale * clip}
            self.arrays[name] = self.rule.define(p, g, state, self.steps[name], now)
        return norm, clip


def warmup(step: int) -> float:
    return 0.1 * min(1.0, step / 5)


def rising(step: int) -> float:
    return 1.0 - 0.9 / step


CASES: list[tuple[type[thalweg.Optimizer], str, Options]] = [
    (thalweg.Adam, "Adam", {"lr": 0.01, "l2": warmup}),
    (thalweg.Adam, "Adam", {"lr": warmup, "betas": (rising, lambda t: 1 - 0.5 / t), "eps": 1e-6}),
    (thalweg.Adam, "Adam", {"lr": 1e-3, "maximize": True}),
    (thalweg.Adam, "AMSGrad", {"lr": 0.01, "l2": 0.1}),
    (thalweg.AdamW, "AdamW", {"lr": warmup, "weight_decay": 0.01}),
    (thalweg.AdamW, "AdamW", {"lr": 0.01, "weight_decay": warmup, "independent": True}),
    (thalweg.AdamW, "AMSGradW", {"lr": warmup, "weight_decay": 0.1, "betas": (0.3, 0.4)}),
    (thalweg.SGD, "SGD", {"lr": warmup, "l2": 0.1, "maximize": True}),
    (
        thalweg.SGD,
        "SGD, momentum",
        {"lr": 0.1, "momentum": rising, "dampening": warmup, "l2": 0.01},
    ),
    (thalweg.SGD, "SGD, Nesterov", {"lr": warmup, "momentum": 0.9, "nesterov": True}),
    (thalweg.SGDW, "SGDW", {"lr": warmup, "weight_decay": 0.1}),
    (
        thalweg.SGDW,
        "SGDW, momentum",
        {"lr": 0.1, "momentum": 0.5, "weight_decay": warmup, "independent": True},
    ),
    (
        thalweg.SGDW,
        "SGDW, Nesterov",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
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
    """A tree with every kind of leaf, one of them large enough for several threads."""
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


@pytest.mark.parametrize(("make", "name", "options"), CASES)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("level", thalweg.cpu_levels())
def test_steps_equal_the_reference(
    *,
    make: type[thalweg.Optimizer],
    name: str,
    options: Options,
    threads: int,
    level: str,
) -> None:
    rng, rule = np.random.default_rng(0), RULES[name]
    tree = make_params(rng)
    params = thalweg.tree.flatten(tree)
    by_hand = ByHand({n: p.copy() for n, p in params.items()}, rule, options)
    amsgrad = {"amsgrad": True} if rule.states == 3 else {}
    optimizer = make(tree, **options, **amsgrad)
    with machine(level, threads):
        for max_norm, scale, without in STEPS:
            grads = make_grads(rng, params, without)
            expected = by_hand.step(grads, max_norm, scale)
            report = optimizer.step(grads, max_norm=max_norm, scale=scale)
            assert (report.grad_norm, report.clip) == expected
            for leaf, (p, *state) in by_hand.arrays.items():
                step, *arrays = optimizer.state[leaf].values()
                assert step == by_hand.steps[leaf]
                for got, x in zip([params[leaf], *arrays], [p, *state], strict=True):
                    assert_same_bits(got, x)


def test_lr_scales_are_multiplied_in_the_order_of_the_groups() -> None:
    p, g = np.zeros(3), np.array([0.1, 0.2, 0.3])
    expected = reference.sgd(p, g, None, 1, lr=0.1 * 0.3 * (1 / 3))[0]
    groups = [{"match": "*", "lr_scale": lr_scale} for lr_scale in (0.3, 1 / 3)]
    thalweg.SGD(p, lr=0.1, groups=groups).step(g)
    assert_same_bits(p, expected)

"""The table of thinc in `docs/coming_from.md`: both libraries reach the same numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

thinc = pytest.importorskip("thinc.api", reason="thinc is not installed")

import thalweg  # noqa: E402
from thalweg import schedule  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 50
SHAPES = {"w": (4, 3), "b": (3,)}


def start() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}


def gradients(step: int) -> dict[str, Any]:
    """Some of a norm above 1, which thinc clips by default."""
    rng = np.random.default_rng(step)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}


def theirs(optimizer: Any, steps: int = STEPS) -> dict[str, Any]:
    weights = start()
    for step in range(steps):
        for key, gradient in gradients(step).items():
            optimizer((0, key), weights[key], gradient)
        optimizer.step_schedules()
    return weights


def ours(make: Callable[[Any], Any], params: dict[str, Any], **limits: float) -> dict[str, Any]:
    opt = make(params)
    for step in range(STEPS):
        opt.step(gradients(step), **limits)
    return params


def assert_close(one: dict[str, Any], other: dict[str, Any]) -> None:
    # Each step rounds a parameter once in thalweg, twice in thinc.
    limit = 2 * STEPS * float(np.finfo(np.float32).eps)
    for name in SHAPES:
        np.testing.assert_allclose(one[name], other[name], rtol=limit, atol=limit)


def hat(eps: float) -> Callable[[int], float]:
    """thinc's epsilon, which it adds to the root before bias correction."""
    return lambda step: eps / math.sqrt(1 - 0.999**step)


ROWS: dict[str, tuple[Any, Callable[[Any], Any], dict[str, float]]] = {
    "Adam, all defaults": (
        thinc.Adam,
        lambda params: thalweg.Adam(params, lr=1e-3, eps=hat(1e-8)),
        {"max_tensor_norm": 1.0},
    ),
    "Adam, large eps": (
        lambda: thinc.Adam(0.01, beta1=0.8, eps=0.01, grad_clip=0.0),
        lambda params: thalweg.Adam(params, lr=0.01, betas=(0.8, 0.999), eps=hat(0.01)),
        {},
    ),
    "Adam, penalty": (
        lambda: thinc.Adam(0.01, L2=0.1, L2_is_weight_decay=False, grad_clip=0.0),
        lambda params: thalweg.Adam(params, lr=0.01, l2=0.1, eps=hat(1e-8)),
        {},
    ),
    "SGD, defaults": (
        lambda: thinc.SGD(0.01),
        lambda params: thalweg.SGD(params, lr=0.01),
        {"max_tensor_norm": 1.0},
    ),
    "SGD, penalty": (
        lambda: thinc.SGD(0.01, L2=0.1, L2_is_weight_decay=False, grad_clip=0.0),
        lambda params: thalweg.SGD(params, lr=0.01, l2=0.1),
        {},
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_runs_of_both_libraries_end_at_the_same_parameters(row: str) -> None:
    make, counterpart, limits = ROWS[row]
    assert_close(ours(counterpart, start(), **limits), theirs(make()))


@pytest.mark.parametrize("rule", ["Adam", "SGD"])
def test_the_decay_of_thinc_comes_after_the_step(rule: str) -> None:
    """With the order of decay and step exchanged at both ends, the runs are the same."""
    lr, decay = 0.01, 0.1
    factor = np.float32(1 - lr * decay)
    make: dict[str, Callable[[Any], Any]] = {
        "Adam": lambda ps: thalweg.AdamW(ps, lr=lr, weight_decay=decay, eps=hat(1e-8)),
        "SGD": lambda ps: thalweg.SGDW(ps, lr=lr, weight_decay=decay),
    }
    before = {name: value / factor for name, value in start().items()}
    after = ours(make[rule], before, max_tensor_norm=1.0)
    other = theirs(getattr(thinc, rule)(lr, L2=decay))
    assert_close({name: value * factor for name, value in after.items()}, other)


def test_radam_of_thinc_corrects_its_first_step_as_the_second() -> None:
    other = theirs(thinc.RAdam(0.01, grad_clip=0.0), steps=1)
    rate = 0.01 * (1 - 0.9) / (1 - 0.9**2)
    for name, value in gradients(0).items():
        np.testing.assert_allclose(other[name], start()[name] - rate * value, rtol=1e-5, atol=1e-7)


def test_averages_differ_by_the_start_alone() -> None:
    optimizer = thinc.SGD(0.01, grad_clip=0.0)
    params = start()
    opt = thalweg.SGD(params, lr=0.01)
    ema = thalweg.EMA(opt, decay=lambda t: min((1 + t) / (10 + t), 0.9999))
    weights, left = start(), 1.0
    for step in range(12):
        for key, gradient in gradients(step).items():
            optimizer((0, key), weights[key], gradient)
        opt.step(gradients(step))
        ema.update()
        left *= (2 + step) / (11 + step)
        for key, value in start().items():
            mine = ema.params[key] - left * value
            np.testing.assert_allclose(optimizer.averages[0, key], mine, rtol=1e-5, atol=1e-6)
        assert step < 9 or left < 1e-4


def test_schedules_of_thinc_count_from_0() -> None:
    for other in (
        thinc.compounding(0.1, 0.01, 0.9),
        thinc.cyclic_triangular(0.01, 0.1, 7),
        thinc.slanted_triangular(0.1, 60),
    ):
        mine = schedule.zero_based(other)
        assert [mine(step + 1) for step in range(60)] == [other(step) for step in range(60)]
    decaying, mine = thinc.decaying(0.1, 0.3), schedule.zero_based(lambda n: 0.1 / (1 + 0.3 * n))
    assert [mine(n + 1) for n in range(60)] == pytest.approx([decaying(n) for n in range(60)])
    warmup, mine = thinc.warmup_linear(0.1, 10, 50), schedule.linear(50, warmup=10, peak=0.1)
    assert [mine(n) for n in range(1, 60)] == pytest.approx([warmup(n) for n in range(1, 60)])
    assert warmup(0) == 0

"""Effects of `l2` and of `weight_decay`, and their differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from arrays import assert_same_bits
from rules import RULES
from thalweg import functional, reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from arrays import Array

CURVATURE = np.array([0.1, 1.0, 10.0])


def trajectory(make: Callable[[Any], thalweg.Optimizer], steps: int = 30) -> Array:
    """Parameters after each step of the minimisation of ``Σ curvature·p²/2``."""
    p = np.array([1.0, -2.0, 3.0])
    opt = make(p)
    path = []
    for _ in range(steps):
        opt.step(CURVATURE * p)
        path.append(p.copy())
    return np.array(path)


def test_without_momentum_penalty_and_decay_are_the_same() -> None:
    penalty = trajectory(lambda p: thalweg.SGD(p, lr=0.05, l2=0.3))
    decay = trajectory(lambda p: thalweg.SGDW(p, lr=0.05, weight_decay=0.3))
    assert np.abs(penalty - decay).max() < 1e-12


def test_with_momentum_the_penalty_enters_the_buffer_and_decay_does_not() -> None:
    penalty = trajectory(lambda p: thalweg.SGD(p, lr=0.05, momentum=0.9, l2=0.3))
    decay = trajectory(lambda p: thalweg.SGDW(p, lr=0.05, momentum=0.9, weight_decay=0.3))
    assert np.abs(penalty - decay)[0].max() < 1e-12  # the buffer is still the gradient
    assert np.abs(penalty - decay)[1].max() > 1e-3


def test_adam_divides_the_penalty_by_the_history_of_the_gradient_and_adamw_does_not() -> None:
    plain = trajectory(lambda p: thalweg.Adam(p, lr=0.05), steps=1)
    penalty = trajectory(lambda p: thalweg.Adam(p, lr=0.05, l2=0.3), steps=1)
    decay = trajectory(lambda p: thalweg.AdamW(p, lr=0.05, weight_decay=0.3), steps=1)
    # Adam's first step has the length lr for any gradient, with or without a penalty.
    assert np.abs(penalty - plain).max() < 1e-7
    assert plain[0] - decay[0] == pytest.approx(0.05 * 0.3 * np.array([1.0, -2.0, 3.0]))


@pytest.mark.parametrize(
    ("plain", "decaying"), [(thalweg.Adam, thalweg.AdamW), (thalweg.SGD, thalweg.SGDW)]
)
def test_without_decay_adamw_equals_adam_and_sgdw_equals_sgd(plain: Any, decaying: Any) -> None:
    assert_same_bits(
        trajectory(lambda p: plain(p, lr=0.05)),
        trajectory(lambda p: decaying(p, lr=0.05, weight_decay=0.0)),
    )


def test_decay_after_an_adam_step_is_adamw_up_to_a_second_order_term() -> None:
    p, g = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    lr, weight_decay = 1e-4, 0.1
    together, apart = p.copy(), p.copy()
    state = np.zeros((4, 1000), np.float32)
    functional.adamw(together, g, state[0], state[1], 1, lr=lr, weight_decay=weight_decay)
    functional.adam(apart, g, state[2], state[3], 1, lr=lr)
    functional.decay(apart, lr * weight_decay)
    rounding = 2 * np.spacing(np.abs(p) + np.float32(lr))
    assert (np.abs(together - apart) <= rounding + lr**2 * weight_decay).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate", [0.0, 1e-60, 1e-5, 0.3, 1.0, 7.0])
def test_functional_decay_equals_the_reference(dtype: type, rate: float) -> None:
    rng = np.random.default_rng(0)
    tree = {"w": rng.standard_normal((300, 301)).astype(dtype).T, "tiny": np.array(1e-35, dtype)}
    tree["all"] = np.array([0.0, -0.0, np.inf, np.nan, -3.0], dtype)[::-1]
    with np.errstate(all="ignore"):
        expected = {name: np.asarray(reference.decay(p, rate)) for name, p in tree.items()}
    functional.decay(tree, rate)
    for name, p in tree.items():
        assert_same_bits(p, expected[name])


@pytest.mark.parametrize("name", ["AdamW", "AMSGradW", "SGDW", "SGDW, momentum"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_independent_decay_is_the_coupled_one_without_lr(name: str, dtype: type) -> None:
    rule = RULES[name]
    p, g, *state = np.abs(np.random.default_rng(0).standard_normal((2 + len(rule.state), 100)))
    p, g, *state = (x.astype(dtype) for x in (p, g, *state))
    lr, weight_decay = 0.037, 0.013
    results = []
    for decay in (
        {"weight_decay": weight_decay},
        {"weight_decay": lr * weight_decay, "independent": True},
    ):
        arrays = [x.copy() for x in (p, *state)]
        assert rule.apply(arrays[0], g, arrays[1:], 5, {"lr": lr, **decay})
        results.append(arrays)
    for coupled, independent in zip(*results, strict=True):
        assert_same_bits(coupled, independent)


def test_a_decay_too_small_to_move_a_parameter_alone_still_counts() -> None:
    half = 2.0**-25  # half the distance from 1 to the next smaller float32
    decay, step, both = np.ones((3, 1), np.float32)
    g = np.array([0.8 * half], np.float32)
    functional.decay(decay, 0.4 * half)
    functional.sgd(step, g, None, 1, lr=1.0)
    functional.sgdw(both, g, None, 1, lr=1.0, weight_decay=0.4 * half)
    assert (decay[0], step[0], both[0]) == (1.0, 1.0, 1.0 - 2 * half)


def amsgrad_path(*, amsgrad: bool) -> Array:
    p, path = np.zeros(1), []
    opt = thalweg.Adam(p, lr=0.1, betas=(0.0, 0.5), amsgrad=amsgrad)
    for g in (10.0, 0.1, 0.1):
        opt.step(np.array([g]))
        path.append(p[0])
    return np.array(path)


def test_the_maximum_of_amsgrad_binds_after_a_large_gradient() -> None:
    adam, amsgrad = amsgrad_path(amsgrad=False), amsgrad_path(amsgrad=True)
    assert adam[0] == amsgrad[0]  # after one step, the maximum is the average
    assert (np.abs(np.diff(amsgrad)) < 0.9 * np.abs(np.diff(adam))).all()

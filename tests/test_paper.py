"""thalweg against the listings of Loshchilov and Hutter's paper, step by step, in float64.

*Decoupled Weight Decay Regularization* (2019): algorithm 1 (SGDW), algorithm 2 (AdamW), and both
with warm restarts (SGDWR, AdamWR). The listings are transcribed with the paper's symbols.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from thalweg import schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Array = np.ndarray[Any, Any]
    Multiplier = Callable[[int], float]
    Gradient = Callable[[Array, int], Array]

STEPS = 700
ALPHA, LAMBDA = 0.05, 0.003
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

BOUND = 4e-15
"""18 units of 2⁻⁵², relative to the largest parameter; the worst of six seeds was 9, AdamW's 4."""


def constant(_: int) -> float:
    return 1.0


def annealed(t: int) -> float:
    return 0.5 + 0.5 * math.cos(math.pi * (t - 1) / STEPS)


def restarted(t: int) -> float:
    """Cosine cycles of 100, 200 and 400 steps, each falling from one towards zero."""
    t_cur, t_i = t - 1, 100
    while t_cur >= t_i:
        t_cur, t_i = t_cur - t_i, 2 * t_i
    return 0.5 + 0.5 * math.cos(math.pi * t_cur / t_i)


SCHEDULES = {
    constant: schedule.constant(),
    annealed: schedule.cosine(total=STEPS + 1),
    restarted: schedule.cosine_restarts(100, T_mult=2),
}
"""thalweg's schedule for each multiplier η_t of the paper."""


def times(eta: Multiplier, factor: float) -> schedule.Schedule:
    """``η_t·factor``, as a hyperparameter."""
    return factor * SCHEDULES[eta]


MULTIPLIERS = pytest.mark.parametrize("eta", [constant, annealed, restarted])


def problem() -> tuple[Array, Gradient]:
    """Initial parameters, and the noisy gradient of an ill-conditioned quadratic."""
    rng = np.random.default_rng(0)
    curvature = 10.0 ** rng.uniform(-2, 1, 50)
    start, optimum = rng.standard_normal((2, 50))
    noise = 0.1 * rng.standard_normal((STEPS + 1, 50))
    return start, lambda theta, t: curvature * (theta - optimum) + noise[t]


def algorithm_1(eta: Multiplier) -> Iterable[Array]:
    """SGDW, lines 4 to 9: the multiplier enters the buffer."""
    theta, gradient = problem()
    m = np.zeros(theta.size)
    for t in range(1, STEPS + 1):
        g = gradient(theta, t)
        m = BETA1 * m + eta(t) * ALPHA * g
        theta = theta - m - eta(t) * LAMBDA * theta
        yield theta


def multiplier_outside(eta: Multiplier) -> Iterable[Array]:
    """SGDW with the multiplier outside the buffer, as in the authors' published code."""
    theta, gradient = problem()
    b = np.zeros(theta.size)
    for t in range(1, STEPS + 1):
        b = BETA1 * b + gradient(theta, t)
        theta = theta - eta(t) * (ALPHA * b + LAMBDA * theta)
        yield theta


def algorithm_2(eta: Multiplier) -> Iterable[Array]:
    """AdamW, lines 4 to 12."""
    theta, gradient = problem()
    m, v = np.zeros((2, theta.size))
    for t in range(1, STEPS + 1):
        g = gradient(theta, t)
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * g**2
        m_hat = m / (1 - BETA1**t)
        v_hat = v / (1 - BETA2**t)
        theta = theta - eta(t) * (ALPHA * m_hat / (np.sqrt(v_hat) + EPSILON) + LAMBDA * theta)
        yield theta


def epsilon_hat(eta: Multiplier) -> Iterable[Array]:
    """AdamW as in the authors' published code, with the epsilon of Adam's reordered form."""
    theta, gradient = problem()
    m, v = np.zeros((2, theta.size))
    for t in range(1, STEPS + 1):
        g = gradient(theta, t)
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * g**2
        alpha_t = eta(t) * ALPHA * math.sqrt(1 - BETA2**t) / (1 - BETA1**t)
        theta = theta - alpha_t * m / (np.sqrt(v) + EPSILON) - eta(t) * LAMBDA * theta
        yield theta


def ours(
    make: Callable[[Array], thalweg.Optimizer],
    before: Callable[[thalweg.Optimizer, int], None] = lambda _opt, _t: None,
) -> Iterable[Array]:
    theta, gradient = problem()
    opt = make(theta)
    for t in range(1, STEPS + 1):
        before(opt, t)
        opt.step(gradient(theta, t))
        yield theta.copy()


def distance(one: Iterable[Array], other: Iterable[Array]) -> float:
    """The largest difference between two paths, relative to the largest parameter of `other`."""
    first, second = np.array([*one]), np.array([*other])
    return float(np.abs(first - second).max() / np.abs(second).max())


def adamw(
    eta: Multiplier, eps: float | Multiplier = EPSILON, **decay: Any
) -> Callable[[Array], thalweg.Optimizer]:
    return lambda theta: thalweg.AdamW(
        theta, times(eta, ALPHA), betas=(BETA1, BETA2), eps=eps, **decay
    )


def sgdw(eta: Multiplier) -> Callable[[Array], thalweg.Optimizer]:
    return lambda theta: thalweg.SGDW(
        theta,
        times(eta, ALPHA),
        momentum=BETA1,
        weight_decay=times(eta, LAMBDA),
        independent=True,
    )


@MULTIPLIERS
def test_independent_adamw_is_algorithm_2(eta: Multiplier) -> None:
    make = adamw(eta, weight_decay=times(eta, LAMBDA), independent=True)
    assert distance(ours(make), algorithm_2(eta)) < BOUND


@MULTIPLIERS
def test_coupled_adamw_with_the_decay_divided_by_alpha_is_algorithm_2(eta: Multiplier) -> None:
    make = adamw(eta, weight_decay=LAMBDA / ALPHA)
    assert distance(ours(make), algorithm_2(eta)) < BOUND


@MULTIPLIERS
def test_the_published_code_has_another_epsilon(eta: Multiplier) -> None:
    make = adamw(
        eta,
        eps=lambda t: EPSILON / math.sqrt(1 - BETA2**t),
        weight_decay=times(eta, LAMBDA),
        independent=True,
    )
    assert distance(ours(make), epsilon_hat(eta)) < BOUND


@MULTIPLIERS
def test_sgdw_keeps_the_multiplier_outside_the_buffer(eta: Multiplier) -> None:
    assert distance(ours(sgdw(eta)), multiplier_outside(eta)) < BOUND


def test_sgdw_is_algorithm_1_only_for_a_constant_multiplier() -> None:
    assert distance(ours(sgdw(constant)), algorithm_1(constant)) < BOUND
    for eta in (annealed, restarted):
        paths = zip(ours(sgdw(eta)), algorithm_1(eta), strict=True)
        apart = [np.abs(one - other).max() for one, other in paths]
        assert apart[0] < BOUND
        assert apart[1] > 1e-6
        assert max(apart) > 1e-3


@MULTIPLIERS
def test_sgdw_is_algorithm_1_if_the_buffer_is_rescaled_with_the_multiplier(eta: Multiplier) -> None:
    def rescale(opt: thalweg.Optimizer, t: int) -> None:
        if t > 1:
            opt.state["0"]["momentum_buffer"][...] *= eta(t - 1) / eta(t)

    assert distance(ours(sgdw(eta), before=rescale), algorithm_1(eta)) < BOUND


@MULTIPLIERS
def test_without_momentum_decay_equals_an_l2_penalty_divided_by_alpha(eta: Multiplier) -> None:
    """Proposition 1 has no multiplier; it holds with one too."""
    lr = times(eta, ALPHA)
    decay = {"weight_decay": times(eta, LAMBDA), "independent": True}
    penalty = ours(lambda theta: thalweg.SGD(theta, lr, l2=LAMBDA / ALPHA))
    assert distance(ours(lambda theta: thalweg.SGDW(theta, lr, **decay)), penalty) < BOUND

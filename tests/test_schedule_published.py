"""Schedules give the values that other libraries publish for theirs, with settings translated.

The values of torch are from its `test/optim/test_lrscheduler.py`, or computed by torch 2.13 and
printed with nine digits. Those of optax (float32), thinc and MLX are from the libraries' tests of
their schedules. All these libraries count from 0: their step `n` is step `n + 1` here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from thalweg.schedule import (
    Schedule,
    constant,
    cosine,
    cosine_restarts,
    exponential,
    linear,
    one_cycle,
    piecewise_constant,
    piecewise_interpolated,
    polynomial,
    triangular,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def fall(high: float, low: float, share: float) -> float:
    return low + (high - low) / 2 * (math.cos(math.pi * share) + 1)


LINEAR = one_cycle(10, peak=25, final_div=2, shape="linear")
COSINE = one_cycle(10, peak=25, final_div=2)
THREE = one_cycle(10, peak=25, pct_start=0.4, final_div=4, shape="linear", three_phase=True)
OPTAX_CYCLE = (
    linear(501, peak=0.0, final=1.6).then(cosine(1501, peak=1.6), at=501),
    linear(501, peak=0.0, final=0.8).then(cosine(2501, peak=0.8), at=501),
    linear(501, peak=0.0, final=0.4).then(cosine(4501, peak=0.4), at=501),
)
FROM_STEP_1: dict[str, tuple[Schedule, Sequence[float]]] = {
    "torch OneCycleLR, linear": (LINEAR, [1, 13, 25, 21.5, 18, 14.5, 11, 7.5, 4, 0.5]),
    "torch OneCycleLR, linear, momentum": (
        LINEAR.momentum(1, 22),
        [22, 11.5, 1, 4, 7, 10, 13, 16, 19, 22],
    ),
    "torch OneCycleLR, cosine": (
        COSINE,
        [1, 13, *(fall(25, 0.5, n / 7) for n in range(8))],
    ),
    "torch OneCycleLR, cosine, momentum": (
        COSINE.momentum(1, 22),
        [22, 11.5, *(fall(1, 22, n / 7) for n in range(8))],
    ),
    "torch OneCycleLR, three phases": (THREE, [1, 9, 17, 25, 17, 9, 1, 0.75, 0.5, 0.25]),
    "torch OneCycleLR, three phases, momentum": (
        THREE.momentum(1, 22),
        [22, 15, 8, 1, 8, 15, 22, 22, 22, 22],
    ),
    "torch OneCycleLR, defaults": (
        one_cycle(10),
        [
            *(0.04, 0.52, 1, 0.950484632, 0.811745654, 0.611262022),
            *(0.388741978, 0.188258346, 0.049519368, 4e-06),
        ],
    ),
    "torch OneCycleLR, defaults, momentum": (
        one_cycle(10).momentum(),
        [
            *(0.95, 0.9, 0.85, 0.854951557, 0.86882551, 0.888873953),
            *(0.911126047, 0.93117449, 0.945048443, 0.95),
        ],
    ),
    "torch OneCycleLR, linear, three phases, pct_start 0.4, div 10, final_div 100": (
        one_cycle(10, pct_start=0.4, div=10, final_div=100, shape="linear", three_phase=True),
        [0.1, 0.4, 0.7, 1, 0.7, 0.4, 0.1, 0.067, 0.034, 0.001],
    ),
    "torch OneCycleLR, linear, three phases, pct_start 0.4, momentum": (
        one_cycle(10, pct_start=0.4, shape="linear", three_phase=True).momentum(),
        [
            *(0.95, 0.916666667, 0.883333333, 0.85, 0.883333333, 0.916666667),
            *(0.95, 0.95, 0.95, 0.95),
        ],
    ),
    "torch CosineAnnealingWarmRestarts": (
        cosine_restarts(4, T_mult=2, final=0.1),
        [
            *(1, 0.868198052, 0.55, 0.231801948, 1, 0.96574579, 0.868198052, 0.722207545),
            *(0.55, 0.377792455, 0.231801948, 0.13425421, 1, 0.991353376),
        ],
    ),
    "torch CosineAnnealingLR, which goes up again": (
        cosine(5, final=0.1)
        .then(cosine(5, peak=0.1, final=1.0), at=5)
        .then(cosine(5, final=0.1), at=9),
        [
            *(1, 0.868198052, 0.55, 0.231801948, 0.1),
            *(0.231801948, 0.55, 0.868198052, 1, 0.868198052),
        ],
    ),
    "torch CyclicLR": (triangular(1, 5, 4), [1, 2, 3, 4, 5, 4, 3, 2, 1, 2, 3]),
    "torch CyclicLR, momentum": (triangular(5, 1, 4), [5, 4, 3, 2, 1, 2, 3, 4, 5, 4, 3]),
    "torch CyclicLR, triangular2": (
        triangular(1, 5, 4, decay=0.5),
        [
            *(1, 2, 3, 4, 5, 4, 3, 2, 1),
            *(1.5, 2, 2.5, 3, 2.5, 2, 1.5, 1, 1.25, 1.5, 1.75, 2, 1.75),
        ],
    ),
    "torch CyclicLR, step_size_down": (
        triangular(1, 5, 4, down=6),
        [1, 2, 3, 4, 5, 13 / 3, 11 / 3, 3, 7 / 3, 5 / 3, 1],
    ),
    "optax linear_onecycle_schedule": (
        piecewise_interpolated({1: 100, 4: 1000, 8: 100, 11: 1}),
        [100, 400, 700, 1000, 775, 550, 325, 100, 67, 34, 1, 1],
    ),
    "optax cosine_onecycle_schedule": (
        piecewise_interpolated({1: 100, 3: 1000, 6: 1}, shape="cosine"),
        [100, 550, 1000, 750.25, 250.75, 1, 1],
    ),
    "optax polynomial_schedule": (
        polynomial(11, power=2, peak=25, final=10),
        [*(10 + 15 * (1 - n / 10) ** 2 for n in range(11)), 10, 10],
    ),
    "optax polynomial_schedule, transition_begin": (
        constant(30).then(polynomial(11, power=2, peak=30, final=10), at=5),
        [*[30] * 4, *(10 + 20 * (1 - n / 10) ** 2 for n in range(11)), 10],
    ),
    "optax piecewise_constant_schedule": (
        piecewise_constant({1: 0.1, 4: 0.2, 7: 0.1}),
        [0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1],
    ),
    "optax piecewise_interpolate_schedule, linear": (
        piecewise_interpolated({1: 200, 6: 300, 11: 75}),
        [200, 220, 240, 260, 280, 300, 255, 210, 165, 120, 75, 75, 75],
    ),
    "optax piecewise_interpolate_schedule, cosine": (
        piecewise_interpolated({1: 400, 4: 240, 6: 288, 8: 288}, shape="cosine"),
        [400, 360, 280, 240, 264, 288, 288, 288, 288],
    ),
    "optax exponential_decay": (exponential(0.5, peak=32), [32, 16, 8, 4, 2]),
    "thinc warmup_linear, from its step 1": (
        linear(10, warmup=2),
        [0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0],
    ),
    "thinc cyclic_triangular, from its step 1 on": (
        triangular(0.1, 1, 2),
        [0.1, 0.55, 1, 0.55, 0.1, 0.55, 1, 0.55, 0.1, 0.55, 1],
    ),
}


@pytest.mark.parametrize("name", FROM_STEP_1)
def test_values_from_step_1_are_those_published(name: str) -> None:
    s, published = FROM_STEP_1[name]
    got = [s(step) for step in range(1, len(published) + 1)]
    assert got == pytest.approx(published, rel=1e-12, abs=1e-9)


AT_STEPS: dict[str, tuple[Schedule, dict[int, float]]] = {
    "optax warmup_cosine_decay_schedule": (
        linear(51, peak=0.2, final=1.21).then(cosine(51, peak=1.21, final=-3, exponent=2), at=51),
        {0: 0.2, 10: 0.402, 50: 1.21, 75: -1.9475002, 100: -3.0},
    ),
    "optax warmup_cosine_decay_schedule, peak 0": (
        linear(51, peak=0.2, final=0.0).then(cosine(51, peak=0.0, exponent=2), at=51),
        {0: 0.2, 10: 0.16, 50: 0, 75: 0, 100: 0},
    ),
    "optax cosine_decay_schedule, exponent": (
        cosine(101, peak=0.1, exponent=2),
        {0: 0.1, 10: 0.09516553580760956, 50: 0.025, 75: 0.0021446612663567066, 100: 0},
    ),
    "optax cosine_decay_schedule, far": (cosine(10**10 + 1, peak=1000), {10**9: 975.52826}),
    "optax sgdr_schedule": (
        OPTAX_CYCLE[0].then(OPTAX_CYCLE[1], at=2001).then(OPTAX_CYCLE[2], at=5001),
        {0: 0, 500: 1.6, 2000: 0, 2500: 0.8, 5500: 0.4, 10000: 0},
    ),
    "MLX step_decay": (
        exponential(0.9, steps=1000, staircase=True, peak=0.1),
        {2500: 0.1 * 0.9**2},
    ),
    "MLX exponential_decay": (exponential(0.99, peak=0.1), {10: 0.1 * 0.99**10}),
    "MLX cosine_decay": (
        cosine(11, peak=0.1),
        {4: 0.05 * (1 + math.cos(0.4 * math.pi))},
    ),
    "MLX cosine_decay, end": (cosine(11, peak=0.1, final=0.05), {10: 0.05, 20: 0.05}),
    "MLX join_schedules": (
        constant(3).then(constant(4), at=3).then(constant(5), at=5),
        {0: 3, 1: 3, 2: 4, 3: 4, 5: 5, 7: 5},
    ),
}


@pytest.mark.parametrize("name", AT_STEPS)
def test_values_at_certain_steps_are_those_published(name: str) -> None:
    s, published = AT_STEPS[name]
    assert {n: s(n + 1) for n in published} == pytest.approx(published, rel=1e-6, abs=1e-15)


def test_a_warmup_as_long_as_the_schedule_is_refused_as_by_optax() -> None:
    with pytest.raises(ValueError, match="warmup=10, total=10"):
        cosine(10, warmup=10)


def restarted(lr: float, position: float, length: float) -> float:
    return fall(lr, 1e-10, position / length)


@pytest.mark.parametrize("lr", [0.05, 0.5])
@pytest.mark.parametrize("multiple", [1, 2, 4])
@pytest.mark.parametrize("steps_an_epoch", [1, 10])
def test_restarts_follow_the_loop_of_torch(lr: float, multiple: int, steps_an_epoch: int) -> None:
    s = cosine_restarts(10 * steps_an_epoch, T_mult=multiple, peak=lr, final=1e-10)
    position, length = 0, 10 * steps_an_epoch
    for step in range(1, 100 * steps_an_epoch + 1):
        assert s(step) == pytest.approx(restarted(lr, position, length), rel=1e-12, abs=1e-15)
        position += 1
        if position >= length:
            position, length = position - length, length * multiple


JUMPS: list[Any] = [
    # T_mult; epochs, out of order; T_cur and T_i at each epoch
    (
        3,
        [0.1, 0.2, 0.3, 1.3, 2.3, 17.5, 18.5, 19.5, 29.5, 30.5, 31.5, 50],
        [0.1, 0.2, 0.3, 1.3, 2.3, 7.5, 8.5, 9.5, 19.5, 20.5, 21.5, 10],
        [*[10] * 5, *[30] * 6, 90],
    ),
    (
        2,
        [1, 2, 3, 4, 5, 25, 32, 33, 34, 80, 81, 3],
        [1, 2, 3, 4, 5, 15, 2, 3, 4, 10, 11, 3],
        [*[10] * 5, 20, *[40] * 3, *[80] * 2, 10],
    ),
]


@pytest.mark.parametrize(("multiple", "epochs", "positions", "lengths"), JUMPS)
def test_restarts_asked_out_of_order_are_those_of_torch(
    multiple: int, epochs: list[float], positions: list[float], lengths: list[int]
) -> None:
    s = cosine_restarts(100, T_mult=multiple, peak=0.5, final=1e-10)  # ten steps an epoch
    for epoch, position, length in zip(epochs, positions, lengths, strict=True):
        expected = restarted(0.5, position, length)
        assert s(round(10 * epoch) + 1) == pytest.approx(expected, rel=1e-12)

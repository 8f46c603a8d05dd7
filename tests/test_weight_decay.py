"""The strength of weight decay: `normalized_decay` and `averaging_time`."""

from __future__ import annotations

import copy
import math
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

import thalweg

RUN = {"batch_size": 128, "samples": 50_000, "epochs": 100}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, 0.05 * math.sqrt(128 / (50_000 * 100))),
        ({"lambda_norm": 0.0}, 0.0),
        ({"lambda_norm": 0.1}, 0.1 * math.sqrt(128 / (50_000 * 100))),
        ({"epochs": 2.5}, 0.05 * math.sqrt(128 / (50_000 * 2.5))),
        ({"batch_size": 1, "samples": 1, "epochs": 1}, 0.05),  # a run of a single step
        ({"batch_size": np.int64(128), "epochs": np.float32(100)}, 0.05 * math.sqrt(2.56e-5)),
        ({"samples": 10**19, "batch_size": 10**17, "epochs": 1}, 0.005),
    ],
)
def test_normalized_decay_equals_its_formula(changed: dict[str, Any], expected: float) -> None:
    decay = thalweg.normalized_decay(**{"lambda_norm": 0.05, **RUN, **changed})
    assert decay == pytest.approx(expected, rel=1e-15)
    assert type(decay) is float


@pytest.mark.parametrize(
    ("arguments", "options", "steps", "epochs"),
    [
        ((1e-3, 0.1), {}, 1e4, None),
        ((1e-3, 1e-4), {"independent": True}, 1e4, None),
        ((1e-3, 0.1), {"batch_size": 128, "samples": 50_000}, 1e4, 25.6),
        ((1e-3, 0.1), {"batch_size": 10, "samples": 10}, 1e4, 1e4),
        ((0.5, 2.0), {}, 1.0, None),
        ((1e-3, 0.0), {}, math.inf, None),
        ((0.0, 0.1), {"batch_size": 1, "samples": 9}, math.inf, math.inf),
        ((0.0, 0.1), {"independent": True}, 10.0, None),
    ],
)
def test_averaging_time_equals_its_formula(
    arguments: tuple[float, float], options: dict[str, Any], steps: float, epochs: float | None
) -> None:
    time = thalweg.averaging_time(*arguments, **options)
    assert time.steps == pytest.approx(steps, rel=1e-15)
    assert time.epochs == (None if epochs is None else pytest.approx(epochs, rel=1e-15))
    assert copy.copy(time) == time
    with pytest.raises(FrozenInstanceError):
        time.steps = 3.0


@pytest.mark.parametrize(
    ("time", "sentence"),
    [
        ((33_333.3, 2.13333), "the last 33,300 steps (2.13 epochs); older updates fade"),
        ((1e4,), "the last 10,000 steps; older updates fade"),
        ((12.34, 0.01234), "the last 12.3 steps (0.0123 epochs); older updates fade"),
        ((math.inf, math.inf), "no decay: weights are the sum of the updates of all steps"),
    ],
)
def test_an_averaging_time_prints_as_a_sentence(time: tuple[float, ...], sentence: str) -> None:
    assert sentence in str(thalweg.AveragingTime(*time))


@pytest.mark.parametrize(("lr", "weight_decay"), [(0.01, 1.0), (0.1, 0.05)])
def test_the_effect_of_an_update_falls_to_one_over_e_within_the_averaging_time(
    lr: float, weight_decay: float
) -> None:
    """The effect of one update decays to 1/e of its size within the averaging time."""
    time = thalweg.averaging_time(lr, weight_decay)
    once, never = np.zeros(1), np.zeros(1)
    optimizers = [thalweg.SGDW(p, lr, weight_decay=weight_decay) for p in (once, never)]
    optimizers[0].step(np.ones(1))
    optimizers[1].step(np.zeros(1))
    first = (once - never)[0]
    for _ in range(round(time.steps)):
        for opt in optimizers:
            opt.step(np.full(1, 0.3))
    assert (once - never)[0] / first == pytest.approx(math.exp(-1), rel=1 / time.steps)


@pytest.mark.parametrize("size", ["batch_size", "samples", "epochs", "lambda_norm"])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, ValueError),
        (math.nan, (TypeError, ValueError)),
        (math.inf, (TypeError, ValueError)),
        ("1", TypeError),
        (True, TypeError),
        (None, TypeError),
    ],
)
def test_normalized_decay_refuses_wrong_numbers(
    size: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"^{size} "):
        thalweg.normalized_decay(**{"lambda_norm": 0.05, **RUN, size: value})


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"lr": -1.0}, ValueError, "^lr "),
        ({"lr": lambda step: 1 / step}, TypeError, "^lr "),
        ({"weight_decay": math.nan}, ValueError, "^weight_decay "),
        ({"lr": 2.0, "weight_decay": 1.0}, ValueError, r"^lr \* weight_decay .*2\.0"),
        ({"weight_decay": 1.5, "independent": True}, ValueError, r"^weight_decay .*1\.5"),
        ({"samples": 10}, TypeError, "batch_size and samples"),
        ({"batch_size": 10}, TypeError, "batch_size and samples"),
        ({"batch_size": 10, "samples": 9}, ValueError, "batch_size .*9.*10"),
        ({"batch_size": 1.0, "samples": 9}, TypeError, "^batch_size "),
    ],
)
def test_averaging_time_refuses_wrong_arguments(
    changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        thalweg.averaging_time(**{"lr": 1e-3, "weight_decay": 0.1, **changed})

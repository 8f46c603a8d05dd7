"""Extreme numbers: steps beyond any run, parameters and gradients at the limits of a type."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from conftest import unchanged
from rules import Rule, every_rule
from thalweg import AdamW, NonFiniteError


def expected(rule: Rule, opt: Any, g: Any) -> list[Any]:
    """Parameter `w` and its state after the next step, by the reference."""
    held = opt.state["w"]
    history = {"history": held["history"]} if "history" in held else {}
    state = [held[key] for key in rule.state]
    return rule.define(opt.params["w"], g, state, held["step"] + 1, {**rule.typical, **history})


@every_rule
@pytest.mark.parametrize("done", [2**31 - 1, 2**31, 2**32, 2**53 - 1, 2**53, 2**53 + 1, 2**62])
def test_steps_are_counted_exactly(rule: Rule, done: int) -> None:
    asked = []

    def schedule(step: int) -> float:
        asked.append(step)
        return rule.typical["lr"]

    opt = rule.make({"w": np.ones(5, np.float32)})
    opt.step({"w": np.linspace(-1, 1, 5)})
    saved = opt.state_dict()
    saved["step_count"] = saved["state"]["w"]["step"] = done
    opt.load_state_dict(saved)
    result = expected(rule, opt, np.linspace(2, -1, 5))
    opt.groups[0].lr = schedule
    report = opt.step({"w": np.linspace(2, -1, 5)})
    assert (asked[-1], report.step, opt.step_count) == (done + 1,) * 3
    assert opt.state["w"]["step"] == done + 1
    assert opt.params["w"].tobytes() == result[0].tobytes()
    assert opt.state_dict()["step_count"] == done + 1


def ends(dtype: Any) -> list[float]:
    """Numbers at the limits of a type."""
    info = np.finfo(dtype)
    one_less = float(np.nextafter(dtype(info.max), dtype(0)))
    positive = [float(info.smallest_subnormal), float(info.tiny), 1.0, one_less, float(info.max)]
    return [0.0, *positive, *(-x for x in positive)]


@every_rule
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore:.*encountered.*:RuntimeWarning")  # the reference's overflows
def test_parameters_and_gradients_at_the_limits_have_the_bits_of_the_reference(
    rule: Rule, dtype: Any
) -> None:
    pairs = np.array([*product([*ends(dtype), np.inf, np.nan], ends(dtype))], dtype)
    opt = rule.make({"w": pairs[:, 0].copy()}, nonfinite="ignore")
    for g in (pairs[:, 1], pairs[::-1, 1], np.zeros(len(pairs), dtype)):
        p, *state = expected(rule, opt, g)
        opt.step({"w": g})
        np.testing.assert_array_equal(opt.params["w"], p)
        for key, result in zip(rule.state, state, strict=True):
            np.testing.assert_array_equal(opt.state["w"][key], result)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adamw_keeps_finite_numbers_finite(dtype: Any) -> None:
    """Every accepted gradient, however large, moves a parameter by about the learning rate."""
    limit = 2.0**64 if dtype is np.float32 else 2.0**512
    largest = float(np.nextafter(dtype(limit), dtype(0)))
    taken = [g for g in ends(dtype) if abs(g) <= largest] + [largest, -largest]
    pairs = np.array([*product(ends(dtype), taken)], dtype)
    opt = AdamW({"w": pairs[:, 0].copy()}, lr=1e-3)
    for g in (pairs[:, 1], pairs[::-1, 1], pairs[:, 1]):
        opt.step({"w": g})
        arrays = [opt.params["w"], opt.state["w"]["exp_avg"], opt.state["w"]["exp_avg_sq"]]
        assert all(np.isfinite(array).all() for array in arrays)
    pairs[0, 1] = limit
    with unchanged(opt), pytest.raises(NonFiniteError, match=r"w \(1\)"):
        opt.step({"w": pairs[:, 1]})


def test_a_view_of_more_elements_than_memory_is_refused_at_once() -> None:
    """The windows have 10^10 elements on 2.4 MB; a check of each would need memory for all."""
    windows = as_strided(np.ones(300_000), (100_000, 100_000), (8, 16))
    with pytest.raises(ValueError, match="elements of parameter '0' share memory"):
        AdamW(windows)

"""Clipping by tensor and by value equals the reference bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg
from arrays import (
    assert_same_bits,
    generators,
    gradient_types,
    machine,
    numbers,
    place,
    readable,
    shapes,
    types,
)
from conftest import unchanged
from rules import RULES, Rule
from thalweg import reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arrays import Array

ADAM, MOMENTUM = RULES["Adam"], RULES["SGD, momentum"]
LIMITS = st.sampled_from([1e-3, 1 / 3, 1.0, 1e30, 1e-40, float("inf")])
SCALES = st.sampled_from([1.0, 1 / 3, 3.7, 1e-6, 1e30])


def stepped(
    params: Mapping[str, Array], grads: Mapping[str, Array], limits: Any, scale: float, rule: Rule
) -> tuple[dict[str, Array], float]:
    """New parameters after a first step, by the reference, and the smallest factor."""
    new, least = {}, 1.0
    for name, p in params.items():
        max_norm, max_value = limits.get("max_tensor_norm"), limits.get("max_value", np.inf)
        g, clip = grads[name], 1.0
        with np.errstate(all="ignore"):
            if max_norm is not None:
                clip = reference.clip_factor({"g": g.astype(p.dtype)}, max_norm, scale)
        how = {**rule.typical, "scale": scale * clip, "max_value": max_value}
        new[name] = rule.define(p, g, [np.zeros_like(p) for _ in rule.state], 1, how)[0]
        least = np.nan if np.isnan(clip) else min(least, clip)
    return new, least


@pytest.mark.parametrize("rule", [ADAM, MOMENTUM], ids=["Adam", "SGD"])
@pytest.mark.parametrize("limit", ["max_tensor_norm", "max_value"])
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_clipped_step_equals_the_reference(rule: Rule, limit: str, data: st.DataObject) -> None:
    rng, scale = data.draw(generators), data.draw(SCALES)
    limits = {limit: data.draw(LIMITS)}
    start, grads = {}, {}
    for name in data.draw(st.sampled_from(["a", "ab", "abc"])):
        shape = data.draw(shapes)
        start[name] = rng.standard_normal(shape).astype(data.draw(types))
        values = numbers(rng, shape, data.draw(gradient_types), scale)
        grads[name] = place(values, data.draw(readable))[1]
    expected, clip = stepped(start, grads, limits, scale, rule)
    for level in thalweg.cpu_levels():
        params = {name: p.copy() for name, p in start.items()}
        opt = rule.make(params, nonfinite="ignore")
        with machine(level, data.draw(st.sampled_from([1, 3]))):
            report = opt.step(grads, scale=scale, **limits)
        for name, p in params.items():
            assert_same_bits(p, np.asarray(expected[name]))
        if not np.isnan(clip):
            assert report.clip == clip
        assert (report.grad_norm is None) == (limit == "max_value")


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("limits", [{"max_tensor_norm": 2.0}, {"max_value": 0.5}])
def test_threads_share_large_tensors(limits: Any, threads: int) -> None:
    rng = np.random.default_rng(0)
    params = {"w": np.ones((503, 499), np.float32), "b": np.ones(7)}
    grads = {"w": rng.standard_normal((499, 503)).T, "b": rng.standard_normal(7)}
    expected, clip = stepped(params, grads, limits, 0.5, ADAM)
    with machine(threads=threads):
        report = ADAM.make(params).step(grads, scale=0.5, **limits)
    for name, p in params.items():
        assert_same_bits(p, expected[name])
    assert report.clip == clip


def test_each_tensor_has_its_own_factor_and_the_smallest_is_reported() -> None:
    params = {"large": np.zeros(2), "huge": np.zeros(2), "small": np.zeros(2)}
    opt = thalweg.SGD(params, 1.0)
    g = np.array([3.0, 4.0])
    report = opt.step({"large": g, "huge": 1e200 * g, "small": 0.1 * g}, max_tensor_norm=1.0)
    assert params["large"].tolist() == (-(1 / 5) * g).tolist()
    assert np.abs(params["huge"] - [-0.6, -0.8]).max() < 1e-15
    assert params["small"].tolist() == (-0.1 * g).tolist()
    with np.errstate(over="ignore"):
        assert report.clip == reference.clip_factor({"g": 1e200 * g}, 1.0)
    assert report.clip == pytest.approx(2e-201)


def test_clipping_by_value_reports_factor_one_and_keeps_zeros() -> None:
    p = np.zeros(4)
    report = thalweg.SGD(p, 1.0).step(np.array([-3.0, 0.0, 0.25, 1e300]), max_value=0.5, scale=2.0)
    assert p.tolist() == [0.5, 0.0, -0.5, -0.5]
    assert (report.clip, report.grad_norm) == (1.0, 2e300)


def test_maximize_clips_in_the_same_way() -> None:
    p = np.zeros(3)
    thalweg.SGD(p, 1.0, maximize=True).step(np.array([-3.0, 0.25, 3.0]), max_value=0.5)
    assert p.tolist() == [-0.5, 0.25, 0.5]


@pytest.mark.parametrize("limits", [{"max_tensor_norm": 1.0}, {"max_value": 1.0}])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_gradients_are_found_before_clipping(limits: Any, bad: float) -> None:
    grads = {"w": np.array([1.0, bad]), "b": np.full(2, 100.0)}
    opt = thalweg.AdamW({"w": np.ones(2), "b": np.ones(2)})
    with unchanged(opt), pytest.raises(thalweg.NonFiniteError) as told:
        opt.step(grads, **limits)
    assert told.value.nonfinite == {"w": 1}
    opt = thalweg.AdamW({"w": np.ones(2), "b": np.ones(2)}, nonfinite="skip")
    with unchanged(opt):
        report = opt.step(grads, **limits)
    assert (report.skipped, dict(report.nonfinite)) == (True, {"w": 1})


@pytest.mark.parametrize(
    ("limits", "fits"),
    [({}, False), ({"max_tensor_norm": 1.0}, True), ({"max_value": 1.0}, True)],
)
def test_adam_accepts_a_too_large_gradient_once_it_is_clipped(limits: Any, fits: bool) -> None:
    opt = thalweg.AdamW(np.ones(2))
    g = np.array([1e160, 1.0])
    if fits:
        assert opt.step(g, **limits).step == 1
        assert np.isfinite(opt.params["0"]).all()
    else:
        with pytest.raises(thalweg.NonFiniteError):
            opt.step(g, **limits)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_norm_that_is_nan_makes_the_reported_factor_nan(order: str) -> None:
    nan, large = order
    opt = thalweg.SGD({"a": np.zeros(1), "b": np.zeros(1)}, 1.0, nonfinite="ignore")
    report = opt.step({nan: np.array([np.nan]), large: np.array([4.0])}, max_tensor_norm=1.0)
    assert np.isnan(report.clip)
    assert opt.params[large] == -1.0


NAMES = ["max_norm", "max_tensor_norm", "max_value"]


@pytest.mark.parametrize("one", NAMES)
@pytest.mark.parametrize("other", NAMES)
def test_limits_are_positive_and_mutually_exclusive(one: str, other: str) -> None:
    opt = thalweg.AdamW(np.ones(2))
    g = np.ones(2)
    for value, error in [
        (0, ValueError),
        (-1.0, ValueError),
        (np.nan, ValueError),
        ("1", TypeError),
    ]:
        with unchanged(opt), pytest.raises(error, match=f"^{one} must be"):
            opt.step(g, **{one: value})
    if one != other:
        with unchanged(opt), pytest.raises(ValueError, match="cannot be combined; pass one"):
            opt.step(g, **{one: 1.0, other: 1.0})
    assert opt.step(g, **dict.fromkeys(NAMES)).clip == 1.0


def test_hundreds_of_tensors_are_clipped_independently() -> None:
    rng = np.random.default_rng(0)
    params = {f"p{i}": np.zeros(3, np.float32) for i in range(300)}
    grads = {name: rng.standard_normal(3).astype(np.float32) for name in params}
    expected, clip = stepped(params, grads, {"max_tensor_norm": 1.0}, 1.0, MOMENTUM)
    assert MOMENTUM.make(params).step(grads, max_tensor_norm=1.0).clip == clip
    for name, p in params.items():
        assert_same_bits(p, expected[name])

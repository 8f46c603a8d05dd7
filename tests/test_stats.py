"""`stats=True`: norms of each gradient, parameter and update, measured in the update's pass."""

from __future__ import annotations

import copy
import math
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg
from arrays import (
    generators,
    gradient_types,
    machine,
    numbers,
    place,
    readable,
    shapes,
    types,
    writable,
)
from conftest import snapshot
from rules import Rule, every_rule
from thalweg import TensorStats, reference

if TYPE_CHECKING:
    from arrays import Array

POLICIES = ["raise", "ignore"]


def expected(p: Array, g: Array, new: Array, scale: float = 1.0) -> TensorStats:
    with np.errstate(all="ignore"):
        return TensorStats(*reference.tensor_stats(p, g, new, scale))


def finite(values: Array) -> Array:
    with np.errstate(all="ignore"):
        is_small = np.abs(values.astype(np.float64)) < 1e10
    return np.where(is_small, values, values.dtype.type(1.5))


@every_rule
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_norms_are_those_of_the_reference_whatever_the_layout(
    rule: Rule, data: st.DataObject
) -> None:
    shape, dtype, rng = data.draw(shapes), data.draw(types), data.draw(generators)
    policy, scale = data.draw(st.sampled_from(POLICIES)), data.draw(st.sampled_from([1.0, 1 / 3]))
    start = numbers(rng, shape, dtype)
    values = numbers(rng, shape, data.draw(gradient_types), scale)
    if policy == "raise":
        values = finite(values)
    _, g = place(values, data.draw(readable))
    limits = data.draw(st.sampled_from([{}, {"max_tensor_norm": 1.0}, {"max_value": 0.5}]))
    for level in thalweg.cpu_levels():
        _, p = place(start, data.draw(writable))
        _, other = place(start, data.draw(writable))
        opt = rule.make({"p": p}, nonfinite=policy)
        twin = rule.make({"p": other}, nonfinite=policy)
        with machine(level, data.draw(st.sampled_from([1, 3]))):
            report = opt.step({"p": g}, scale=scale, stats=True, **limits)
            plain = twin.step({"p": g}, scale=scale, **limits)
        assert dict(report.stats) == {"p": expected(start, g, p, scale)}
        assert plain.stats is None
        # Statistics change nothing else.
        assert snapshot_values(opt) == snapshot_values(twin)
        assert repr(plain) == repr(report).partition(", stats=")[0] + ")"


def snapshot_values(opt: thalweg.Optimizer) -> Any:
    """Contents without the identity of arrays; all NaNs are equal."""
    step, counts, _, groups = snapshot(opt)
    arrays = [*opt.params.values()]
    arrays += [a for leaf in opt.state.values() for key, a in leaf.items() if key != "step"]
    return step, counts, [np.where(np.isnan(a), np.nan, a).tobytes() for a in arrays], groups


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("layout", ["contiguous", "Fortran", "sliced"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_and_levels_give_the_same_bits(dtype: str, layout: str, policy: str) -> None:
    rng = np.random.default_rng(0)
    start, gradient = rng.standard_normal((2, 503, 499)).astype(dtype)
    grads = {"w": place(gradient, "Fortran")[1], "b": rng.standard_normal(7)}
    for level in thalweg.cpu_levels():
        for threads in (1, 2, 3, 7):
            params = {"w": place(start, layout)[1], "b": np.ones(7)}
            opt = thalweg.AdamW(params, lr=0.1, nonfinite=policy)
            with machine(level, threads):
                report = opt.step(grads, stats=True)
            assert report.stats["w"] == expected(start, gradient, params["w"])
            assert report.stats["b"] == expected(np.ones(7), grads["b"], params["b"])


@pytest.mark.parametrize("policy", POLICIES)
def test_norms_hold_where_squares_overflow(policy: str) -> None:
    params = {"huge": np.ones(2), "small": np.ones(2)}
    opt = thalweg.SGD(params, 1e-200, nonfinite=policy)
    grads = {"huge": np.array([3e200, 4e200]), "small": np.array([3.0, 4.0])}
    report = opt.step(grads, stats=True)
    assert report.stats["huge"].grad_norm == pytest.approx(5e200)
    assert report.stats["small"].grad_norm == 5.0
    for name, g in grads.items():
        assert report.stats[name] == expected(np.ones(2), g, params[name])


def test_an_infinite_gradient_has_an_infinite_norm_beside_a_huge_one() -> None:
    params = {"bad": np.ones(1), "huge": np.ones(1), "nan": np.ones(1)}
    opt = thalweg.SGD(params, 1e-300, nonfinite="ignore")
    grads = {"bad": np.array([np.inf]), "huge": np.array([1e200]), "nan": np.array([np.nan])}
    stats = opt.step(grads, stats=True).stats
    assert stats["bad"].grad_norm == math.inf
    assert stats["huge"].grad_norm == pytest.approx(1e200)
    assert math.isnan(stats["nan"].grad_norm)


def test_norms_are_of_the_scaled_unclipped_gradient_and_the_applied_update() -> None:
    params = {"w": np.array([6.0, 8.0]), "b": np.ones(2), "frozen": np.ones(2)}
    opt = thalweg.SGD(params, 1.0, groups=[{"match": "frozen", "frozen": True}])
    grads = {"w": np.array([3.0, 4.0]), "b": None, "frozen": np.ones(2)}
    report = opt.step(grads, scale=2.0, max_norm=1.0, stats=True)
    assert dict(report.stats) == {"w": report.stats["w"]}
    stats = report.stats["w"]
    assert (stats.grad_norm, stats.param_norm) == (10.0, 10.0)
    assert stats.update_norm == pytest.approx(1.0)
    assert stats.update_ratio == stats.update_norm / 10.0
    with pytest.raises(TypeError):
        report.stats["w"] = None


def test_a_skipped_step_has_no_statistics() -> None:
    opt = thalweg.AdamW(np.ones(2), nonfinite="skip")
    assert opt.step(np.array([1.0, np.nan]), stats=True).stats is None
    assert opt.step(np.ones(2), stats=True).stats is not None


@pytest.mark.parametrize("stats", [1, None, "yes"])
def test_stats_is_true_or_false(stats: Any) -> None:
    with pytest.raises(TypeError, match=r"^stats must be True or False"):
        thalweg.AdamW(np.ones(2)).step(np.ones(2), stats=stats)


def test_an_open_step_reports_statistics_for_each_call() -> None:
    rng = np.random.default_rng(0)
    start, g = rng.standard_normal((2, 5))
    params = {"a": start.copy(), "b": start.copy()}
    with thalweg.AdamW(params, lr=0.1).open_step() as step:
        for name, p in params.items():
            report = step({name: g}, stats=True)
            assert dict(report.stats) == {name: expected(start, g, p)}


@pytest.mark.parametrize(
    ("param", "update", "ratio"),
    [(2.0, 1.0, 0.5), (0.0, 1.0, math.inf), (0.0, 0.0, math.nan), (math.inf, math.inf, math.nan)],
)
def test_the_update_ratio_of_zero_and_infinite_norms_is_defined(
    param: float, update: float, ratio: float
) -> None:
    found = TensorStats(1.0, param, update).update_ratio
    assert repr(found) == repr(ratio)


def test_statistics_are_values() -> None:
    stats = TensorStats(1.0, 2.0, math.nan)
    assert repr(stats) == "TensorStats(grad_norm=1.0, param_norm=2.0, update_norm=nan)"
    for other in (pickle.loads(pickle.dumps(stats)), copy.deepcopy(stats)):  # noqa: S301 - our own bytes
        assert other == stats
        assert repr(other) == repr(stats)
    for different in (TensorStats(0.0, 2.0, math.nan), TensorStats(1.0, 2.0, 0.0), (1.0, 2.0)):
        assert stats != different
    with pytest.raises(AttributeError):
        stats.grad_norm = 3.0
    report = thalweg.AdamW(np.ones(2)).step(np.ones(2), stats=True)
    again = pickle.loads(pickle.dumps(report))  # noqa: S301 - our own bytes
    assert again == report
    assert again != thalweg.AdamW(np.ones(2)).step(np.ones(2))

"""`thalweg.functional` checks everything, and then updates the given arrays in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from thalweg import NonFiniteError
from thalweg.functional import adam, adamw, clip_by_global_norm, decay, global_norm, sgd, sgdw

ADAMS, SGDS = (adam, adamw), (sgd, sgdw)


def full(value: float, dtype: Any = np.float32) -> np.ndarray:
    return np.full(3, value, dtype)


def read_only() -> np.ndarray:
    array = full(1)
    array.setflags(write=False)
    return array


def arguments(update: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"p": full(1), "g": full(1)}
    if update in ADAMS:
        given |= {"exp_avg": full(0), "exp_avg_sq": full(0)}
    else:
        given |= {"momentum_buffer": full(0), "momentum": 0.9}
    return {**given, "step": 1, "lr": 0.5}


def arrays(given: dict[str, Any]) -> list[bytes]:
    found = []
    for value in given.values():
        several = value if isinstance(value, list | tuple) else [value]
        found += [array.tobytes() for array in several if isinstance(array, np.ndarray)]
    return found


@pytest.mark.parametrize("update", [*ADAMS, *SGDS])
def test_an_update_is_in_place_and_returns_true(update: Any) -> None:
    given = arguments(update)
    assert update(**given) is True
    assert np.allclose(given["p"], 0.5, atol=0.01)
    assert (given["g"] == 1).all()


@pytest.mark.parametrize("container", [list, tuple])
@pytest.mark.parametrize("update", [*ADAMS, *SGDS])
def test_sequences_update_many_arrays(update: Any, container: Any) -> None:
    alone = [arguments(update) for _ in range(3)]
    alone[1] |= {
        key: value.astype(np.float64)
        for key, value in alone[1].items()
        if isinstance(value, np.ndarray)
    }
    together = {
        key: container(given[key].copy() for given in alone)
        if isinstance(value, np.ndarray)
        else value
        for key, value in alone[0].items()
    }
    assert update(**together)
    assert all(update(**given) for given in alone)
    assert all(np.array_equal(p, given["p"]) for p, given in zip(together["p"], alone, strict=True))


def test_empty_sequences_are_accepted() -> None:
    assert adamw([], [], [], [], 1, lr=0.1)
    decay({}, 0.1)
    assert global_norm([]) == 0.0
    assert clip_by_global_norm({"a": None}, 1.0) == 0.0


BOTH: list[tuple[dict[str, Any], Any, str]] = [
    ({"p": [1.0], "g": [full(1)]}, (TypeError, ValueError), "sequence|float"),
    ({"p": read_only()}, ValueError, "p is read-only"),
    ({"p": [full(1)]}, ValueError, "g must be a sequence of length 1, as p is, got one array"),
    ({"g": [full(1)]}, ValueError, "g must be one array, as p is, got a sequence of length 1"),
    ({"g": None}, TypeError, "g must be a float32 or float64 ndarray, got NoneType"),
    ({"g": np.ones(4)}, ValueError, r"g must have the shape .*\(3,\), got \(4,\)"),
    ({"step": 0}, ValueError, "step.*0"),
    ({"step": -1}, ValueError, "step.*-1"),
    ({"step": 2**70}, ValueError, "step"),
    ({"step": 1.0}, TypeError, "step"),
    ({"step": True}, TypeError, "step"),
    ({"threads": 0}, ValueError, "threads"),
    ({"threads": -1}, ValueError, "threads"),
    ({"threads": 1.5}, TypeError, "threads"),
    ({"lr": -1.0}, ValueError, "lr .*at least 0.*-1"),
    ({"lr": math.nan}, ValueError, "lr"),
    ({"lr": "0.1"}, TypeError, "lr"),
    ({"lr": True}, TypeError, "lr"),
    ({"lr": lambda _: 0.1}, TypeError, "lr"),
    ({"scale": 0.0}, ValueError, "scale"),
    ({"scale": math.inf}, ValueError, "scale"),
    ({"nonfinite": "zero"}, ValueError, "nonfinite .*zero"),
    ({"maximize": 1}, TypeError, "maximize"),
    ({"g": np.array([1, np.nan, np.inf])}, NonFiniteError, r"g \(2\)"),
]
ADAM_ONLY: list[tuple[dict[str, Any], Any, str]] = [
    ({"betas": (0.9, 1.0)}, ValueError, r"betas\[1\]"),
    ({"betas": 0.9}, TypeError, "betas"),
    ({"betas": (0.9,)}, (TypeError, ValueError), "betas"),
    ({"eps": 1e-16}, ValueError, "eps .*float32"),
]
SGD_ONLY: list[tuple[dict[str, Any], Any, str]] = [
    ({"momentum_buffer": None}, ValueError, "momentum above 0 needs a momentum_buffer"),
    ({"momentum": 1.5}, ValueError, "momentum"),
    ({"momentum": math.nan}, ValueError, "momentum must be from 0 to 1"),
    ({"dampening": 0.1, "nesterov": True}, ValueError, "dampening.*nesterov"),
]


@pytest.mark.parametrize(
    ("update", "change", "error", "message"),
    [
        *((update, *row) for update in (adamw, sgd) for row in BOTH),
        *((update, *row) for update in ADAMS for row in ADAM_ONLY),
        *((update, *row) for update in SGDS for row in SGD_ONLY),
        (adamw, {"independent": True}, TypeError, "weight_decay"),
        (sgdw, {"weight_decay": -1.0}, ValueError, "weight_decay"),
        (adam, {"l2": -1.0}, ValueError, "l2"),
        (adam, {"weight_decay": 0.1}, TypeError, "weight_decay"),
    ],
)
def test_a_refused_update_changes_nothing(
    update: Any, change: dict[str, Any], error: Any, message: str
) -> None:
    given = {**arguments(update), **change}
    before = arrays(given)
    with pytest.raises(error, match=message):
        update(**given)
    assert arrays(given) == before


@pytest.mark.parametrize("name", ["p", "g", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"])
def test_sequences_must_be_equally_long(name: str) -> None:
    given = {
        key: [full(0), full(0)] for key in ("p", "g", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    }
    given[name] = given[name] * 2
    with pytest.raises(
        ValueError,
        match=r"length 2, as p is, got a .* length 4|length 4, as p is, got a .* length 2",
    ):
        adamw(**given, step=1, lr=0.1)


def test_skip_returns_false_and_changes_nothing() -> None:
    for update in (*ADAMS, *SGDS):
        given = {**arguments(update), "g": np.array([1, np.nan, 1])}
        before = arrays(given)
        assert update(**given, nonfinite="skip") is False
        assert arrays(given) == before
        assert update(**given, nonfinite="ignore") is True
        assert np.isnan(given["p"]).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("rate", "error", "message"),
    [
        (-0.1, ValueError, "rate|decay"),
        (math.nan, ValueError, "rate|decay"),
        (math.inf, ValueError, "rate|decay"),
        ("0.1", TypeError, "rate"),
        (True, TypeError, "rate"),
    ],
)
def test_decay_refuses_invalid_rates(rate: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        decay(first := full(1), rate)
    assert (first == 1).all()


def test_norms_of_nonfinite_arrays_are_nonfinite() -> None:
    assert math.isnan(global_norm([full(1), full(math.nan)]))
    assert global_norm({"a": full(math.inf), "b": np.float32(1)}) == math.inf
    for value in (math.nan, math.inf):
        g = np.array([1.0, value])
        assert str(clip_by_global_norm(g, 1.0)) == str(value)
        assert g[0] == 1.0


def test_clipping_is_in_place_and_returns_the_norm_before() -> None:
    grads = {"w": np.array([3.0, 0.0], np.float32), "b": [np.array(4.0)], "none": None}
    assert clip_by_global_norm(grads, 10.0) == 5.0
    assert grads["b"][0] == 4.0
    assert clip_by_global_norm(grads, 2.5) == 5.0
    assert (grads["w"].tolist(), float(grads["b"][0])) == ([1.5, 0.0], 2.0)


@pytest.mark.parametrize(
    ("max_norm", "error", "message"),
    [
        (0.0, ValueError, "max_norm"),
        (-1.0, ValueError, "max_norm"),
        (math.nan, ValueError, "max_norm"),
        ("1", TypeError, "max_norm"),
        (True, TypeError, "max_norm"),
        (None, TypeError, "max_norm"),
    ],
)
def test_clipping_refuses_invalid_norms(
    max_norm: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        clip_by_global_norm(first := full(9), max_norm)
    assert (first == 9).all()

"""Gradients of HIPS autograd: trees, vectors, unused parameters; parity with its optimizers."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from conftest import unchanged

pytest.importorskip("autograd")
import autograd.numpy as anp
from autograd import grad, make_vjp, value_and_grad
from autograd.misc import flatten, optimizers

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "integrations" / "autograd.md"
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((64, 5)), RNG.standard_normal(64)


@pytest.mark.parametrize("name", ["autograd_convolutional", "autograd_recurrent"])
def test_programs_reach_the_accuracy_that_the_page_states(name: str) -> None:
    pytest.importorskip("sklearn")
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py")],
        # More threads of BLAS would slow the small products down, above all next to other programs.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = re.fullmatch(r"test accuracy (.*)%, \d+ of 360", ended.stdout.splitlines()[-1])
    stated = re.search(rf"\[{name}.py\].*\| (.*) % \|", PAGE.read_text(encoding="utf-8"))
    assert said is not None
    assert stated is not None
    # Rounding of another BLAS may change the result of two images.
    assert float(said[1]) == pytest.approx(float(stated[1]), abs=0.6)


def as_dict(dtype: Any) -> Any:
    return {"layer": {"w": np.linspace(-1, 1, 5, dtype=dtype), "b": np.ones((), dtype)}}


def as_list(dtype: Any) -> Any:
    return [(np.linspace(-1, 1, 5, dtype=dtype), np.ones((), dtype))]


def as_tuple(dtype: Any) -> Any:
    return ([np.linspace(-1, 1, 5, dtype=dtype)], np.ones((), dtype))


def as_array(dtype: Any) -> Any:
    return np.linspace(-1, 1, 5, dtype=dtype)


def loss(params: Any) -> Any:
    leaves: list[Any] = []

    def visit(tree: Any) -> None:
        if hasattr(tree, "shape"):
            leaves.append(tree)
        else:
            for below in tree.values() if hasattr(tree, "values") else tree:
                visit(below)

    visit(params)
    w, *rest = leaves
    scaled = w * np.linspace(0.5, 2, 5)  # the factor is float64
    return anp.mean((anp.dot(X, scaled) + sum(anp.tanh(b) for b in rest) - Y) ** 2)


def leaves_of(tree: Any) -> list[Any]:
    return list(thalweg.tree.flatten(tree).values())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", [as_dict, as_list, as_tuple, as_array])
def test_gradients_are_accepted_unconverted(make: Callable[[Any], Any], dtype: Any) -> None:
    params = make(dtype)
    before = copy.deepcopy(params)
    _, grads = value_and_grad(loss)(params)
    kept = copy.deepcopy(grads)
    thalweg.SGD(params, lr=0.5).step(grads)
    for p, old, g, g_kept in zip(*map(leaves_of, (params, before, grads, kept)), strict=True):
        assert np.any(g)
        np.testing.assert_array_equal(p, old - dtype(0.5) * g.astype(dtype))
        np.testing.assert_array_equal(g, g_kept)


def test_a_bare_float32_array_may_get_float64_gradients() -> None:
    assert grad(loss)(as_array(np.float32)).dtype == np.float64
    assert grad(loss)(as_list(np.float32))[0][0].dtype == np.float32


def test_updating_in_place_has_the_bits_of_training_on_copies() -> None:
    params, others = as_dict(np.float64), as_dict(np.float64)
    opt, other = thalweg.AdamW(params, lr=0.1), thalweg.AdamW(others, lr=0.1)
    for _ in range(20):
        value, grads = value_and_grad(loss)(params)
        opt.step(grads)
        untouched = copy.deepcopy(others)
        assert value == loss(untouched)
        other.step(grad(loss)(untouched))
    for one, two in zip(leaves_of(params), leaves_of(others), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_backward_pass_after_a_step_reads_the_new_values() -> None:
    w = np.array([1.0, 2.0])
    vjp, _ = make_vjp(lambda w: anp.sum(w**2))(w)
    thalweg.SGD(w, lr=0.25).step(vjp(1.0))
    np.testing.assert_array_equal(vjp(1.0), 2 * w)


def used(params: Any) -> Any:
    return anp.sum(params["used"] ** 2)


UNUSED: dict[str, tuple[Callable[[thalweg.Optimizer, Any], Any], int]] = {
    "zeros": (lambda opt, grads: opt.step(grads), 3),
    "None": (lambda opt, grads: opt.step({**grads, "unused": None}), 0),
    "partial": (lambda opt, grads: opt.step({"used": grads["used"]}, partial=True), 0),
}


@pytest.mark.parametrize("how", UNUSED)
def test_zero_gradients_count_as_steps_and_omitted_ones_do_not(how: str) -> None:
    step, counted = UNUSED[how]
    params = {"used": np.ones(2), "unused": np.ones(2)}
    opt = thalweg.AdamW(params, lr=0.1, weight_decay=0.1)
    opt.step({"used": np.ones(2), "unused": np.ones(2)})
    moment, start = opt.state["unused"]["exp_avg"].copy(), params["unused"].copy()
    for _ in range(3):
        step(opt, grad(used)(params))
    assert opt.state["unused"]["step"] == 1 + counted
    np.testing.assert_allclose(opt.state["unused"]["exp_avg"], moment * 0.9**counted)
    assert np.all(params["unused"] < start) == bool(counted)


def test_a_flat_vector_trains_like_its_tree() -> None:
    params = as_dict(np.float64)
    flat, unflatten = flatten(params)
    opt, other = thalweg.Adam(params, lr=0.1), thalweg.Adam(flat, lr=0.1)
    for _ in range(10):
        opt.step(grad(loss)(params))
        other.step(grad(lambda flat: loss(unflatten(flat)))(flat))
    for one, two in zip(leaves_of(params), leaves_of(unflatten(flat)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12)


MIGRATIONS: dict[str, tuple[Any, dict[str, Any], Callable[[Any], thalweg.Optimizer]]] = {
    "adam, defaults": (optimizers.adam, {}, thalweg.Adam),
    "adam": (
        optimizers.adam,
        {"step_size": 0.02, "b1": 0.8, "b2": 0.95, "eps": 1e-3},
        lambda params: thalweg.Adam(params, lr=0.02, betas=(0.8, 0.95), eps=1e-3),
    ),
    "sgd, defaults": (
        optimizers.sgd,
        {},
        lambda params: thalweg.SGD(params, lr=0.1 * (1 - 0.9), momentum=0.9),
    ),
    "sgd": (
        optimizers.sgd,
        {"step_size": 0.3, "mass": 0.5},
        lambda params: thalweg.SGD(params, lr=0.3 * (1 - 0.5), momentum=0.5),
    ),
}


@pytest.mark.parametrize("name", MIGRATIONS)
def test_trajectories_equal_those_of_the_optimizers_of_autograd(name: str) -> None:
    optimize, settings, make = MIGRATIONS[name]
    visited: list[Any] = []
    optimize(
        lambda params, _: grad(loss)(params),
        as_dict(np.float64),
        lambda params, _, __: visited.append(copy.deepcopy(params)),
        num_iters=100,
        **settings,
    )
    params = as_dict(np.float64)
    opt = make(params)
    for theirs in visited:
        for one, two in zip(leaves_of(params), leaves_of(theirs), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-11, atol=1e-12)
        opt.step(grad(loss)(params))
    assert opt.step_count == 100


INSIDE: dict[str, Callable[[thalweg.Optimizer, Any], Any]] = {
    "step": lambda opt, params: opt.step({"w": params["w"]}),
    "accumulator": lambda opt, params: thalweg.Accumulator(opt.params).add({"w": params["w"]}),
    "functional": lambda opt, params: thalweg.functional.sgd(
        opt.params["w"], params["w"], None, 1, lr=0.1
    ),
    "optimizer": lambda _, params: thalweg.AdamW({"w": params["w"]}),
    "optimizer of the tree": lambda _, params: thalweg.AdamW(params),
}


@pytest.mark.parametrize("what", INSIDE)
def test_calls_inside_the_differentiated_function_are_refused_with_advice(what: str) -> None:
    params = {"w": np.ones(3)}
    opt = thalweg.AdamW(params)

    def stepping(boxes: Any) -> Any:
        INSIDE[what](opt, boxes)
        return anp.sum(boxes["w"])

    refusal = r"Box; call this outside the function that autograd differentiates"
    with unchanged(opt), pytest.raises(TypeError, match=refusal):
        grad(stepping)(params)

"""Gradients of JAX for parameters of NumPy: asynchrony, trees, dtypes, parity with optimizers."""

from __future__ import annotations

import copy
import importlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

import thalweg
from conftest import unchanged

pytest.importorskip("jax")
import jax
import jax.numpy as jnp
from jax.example_libraries import optimizers

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "integrations" / "jax.md"
RNG = np.random.default_rng(0)
X, Y = (RNG.standard_normal(shape).astype(np.float32) for shape in ((64, 5), 64))


def test_the_program_reaches_the_accuracy_that_the_page_states() -> None:
    pytest.importorskip("sklearn")
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-W", "error", str(ROOT / "examples" / "jax_digits.py")],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = re.fullmatch(r"test accuracy (.*)%, \d+ of 360", ended.stdout.splitlines()[-1])
    stated = re.search(r"accuracy of (\S+) % on 360 images", PAGE.read_text(encoding="utf-8"))
    assert said is not None
    assert stated is not None
    # Rounding on another machine may change the result of two images.
    assert float(said[1]) == pytest.approx(float(stated[1]), abs=0.6)


def start(dtype: Any = np.float32) -> Any:
    return {"layer": {"w": np.linspace(-1, 1, 5, dtype=dtype), "b": np.ones((), dtype)}}


@jax.value_and_grad
def loss_and_grads(params: Any, x: Any, y: Any) -> Any:
    return jnp.mean((x @ params["layer"]["w"] + jnp.tanh(params["layer"]["b"]) - y) ** 2)


jitted = jax.jit(loss_and_grads)


def assert_same_bits(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_are_accepted_unconverted(dtype: Any) -> None:
    params, others = start(dtype), start(dtype)
    opt, other = thalweg.AdamW(params, lr=0.1), thalweg.AdamW(others, lr=0.1)
    for _ in range(10):
        _, grads = jitted(params, X, Y)
        assert all(
            isinstance(g, jax.Array) and g.dtype == np.float32 for g in jax.tree.leaves(grads)
        )
        opt.step(grads, max_norm=1.0)
        other.step(jax.tree.map(lambda g: np.array(g, dtype), grads), max_norm=1.0)
    assert not np.array_equal(params["layer"]["w"], start(dtype)["layer"]["w"])
    assert_same_bits(params, others)


def test_float64_gradients_are_not_rounded_to_float32() -> None:
    enable_x64 = getattr(jax, "enable_x64", None)
    if enable_x64 is None:  # an older JAX
        enable_x64 = importlib.import_module("jax.experimental").enable_x64
    with enable_x64(True):
        params = start(np.float64)
        before = copy.deepcopy(params)
        _, grads = loss_and_grads(params, X, Y)
        thalweg.SGD(params, lr=0.5).step(grads)
    assert all(g.dtype == np.float64 for g in jax.tree.leaves(grads))
    assert_same_bits(params, jax.tree.map(lambda p, g: p - 0.5 * np.asarray(g), before, grads))


def at_offset(array: Any, offset: int) -> Any:
    """A copy whose address is `offset` bytes after a multiple of 64."""
    memory = np.empty(array.nbytes + 128, np.uint8)
    first = -memory.ctypes.data % 64 + offset
    found = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    found[...] = array
    return found


@pytest.mark.parametrize("offset", [0, 16])
def test_the_loop_has_the_bits_of_a_loop_that_waits_and_copies(offset: int) -> None:
    weights = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32) / 16
    x = np.linspace(-1, 1, 4 * 256, dtype=np.float32).reshape(4, 256)
    both = jax.jit(jax.value_and_grad(lambda p: jnp.mean((jnp.tanh(x @ p["w"]) - 1) ** 2)))
    params, others = {"w": at_offset(weights, offset)}, {"w": weights.copy()}
    opt, other = thalweg.AdamW(params, lr=0.01), thalweg.AdamW(others, lr=0.01)
    for _ in range(30):
        loss, grads = both(params)
        opt.step(grads)
        expected, grads = jax.block_until_ready(both({"w": others["w"].copy()}))
        other.step({"w": np.array(grads["w"])})
        assert float(loss) == float(expected)
    assert_same_bits(params, others)


def test_waiting_for_one_result_of_a_call_waits_for_all() -> None:
    def slow(w: Any) -> Any:
        return jax.lax.fori_loop(0, 20, lambda _, x: jnp.tanh(x @ w), w)

    both = jax.jit(lambda params: (params["w"][0] + 1, slow(params["w"])))
    params = {"w": at_offset(np.eye(256, dtype=np.float32), 0)}
    for _ in range(5):
        quick, late = both(params)
        opt = thalweg.SGD({"w": np.zeros(256, np.float32)}, lr=0.1)
        opt.step({"w": quick})
        assert late.is_ready()


def test_a_step_changes_jax_arrays_that_share_memory_and_no_finished_copy() -> None:
    w = at_offset(np.zeros(16, np.float32), 0)
    shared = jax.device_put(w)
    if not np.shares_memory(np.asarray(shared), w):
        pytest.skip("this JAX copies")
    kept = jax.block_until_ready(jnp.array(w, copy=True))
    thalweg.SGD(w, lr=1.0).step(jnp.ones(16))
    assert (float(w[0]), float(shared[0]), float(kept[0])) == (-1.0, -1.0, 0.0)


def step_in(opt: thalweg.Optimizer) -> Callable[[Any], Any]:
    def function(w: Any) -> Any:
        opt.step({"w": w})
        return jnp.sum(w)

    return function


def make_in(_: thalweg.Optimizer) -> Callable[[Any], Any]:
    def function(w: Any) -> Any:
        thalweg.AdamW({"w": w})
        return jnp.sum(w)

    return function


TRANSFORMS: dict[str, Callable[[Any, Any], Any]] = {
    "jit": lambda function, w: jax.jit(function)(w),
    "grad": lambda function, w: jax.grad(function)(w),
    "vmap": lambda function, w: jax.vmap(function)(w[None]),
    "scan": lambda function, w: jax.lax.scan(lambda c, _: (c, function(c)), w, None, length=2),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("work", [step_in, make_in])
def test_tracers_are_refused_with_advice(work: Any, transform: str) -> None:
    w = np.ones(3, np.float32)
    opt = thalweg.AdamW({"w": w})
    refusal = r"Tracer\b.*; call this outside the functions that JAX transforms"
    with unchanged(opt), pytest.raises(TypeError, match=refusal):
        TRANSFORMS[transform](work(opt), w)


def donated() -> Any:
    gradient = jnp.ones(3)
    jax.jit(jnp.negative, donate_argnums=0)(gradient)
    return gradient


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "float8": (lambda: jnp.ones(3, jnp.float8_e5m2), "'b' must have dtype .*, got float8_e5m2"),
    "integer": (lambda: jnp.ones(3, jnp.int32), "'b' must have dtype .*, got int32"),
    "donated": (donated, "'b' must be convertible .*; Array has been deleted"),
}


@pytest.mark.parametrize("half", [jnp.bfloat16, jnp.float16])
def test_gradients_of_half_precision_are_read_as_they_are(half: Any) -> None:
    gradient = jnp.array([0.1, -2.0, 3e-7], half)
    params, expected = np.ones(3, np.float32), np.ones(3, np.float32)
    thalweg.AdamW(params).step(gradient)
    thalweg.AdamW(expected).step(np.asarray(gradient).astype(np.float32))
    assert params.tobytes() == expected.tobytes()


@pytest.mark.parametrize("what", REFUSED)
def test_gradients_that_cannot_be_read_are_refused_and_nothing_changes(what: str) -> None:
    make, message = REFUSED[what]
    opt = thalweg.AdamW({"a": np.ones(3, np.float32), "b": np.ones(3, np.float32)})
    with unchanged(opt), pytest.raises(TypeError, match=message):
        opt.step({"a": jnp.ones(3), "b": make()})


def test_gradients_of_frozen_integers_are_ignored() -> None:
    params = {"w": np.ones(3, np.float32), "indices": np.array([0, 0, 2])}
    opt = thalweg.SGD(params, lr=0.5, groups=[{"match": "indices", "frozen": True}])
    opt.step(jax.grad(lambda p: jnp.sum(p["w"][p["indices"]]), allow_int=True)(params))
    np.testing.assert_array_equal(params["w"], [0.0, 1.0, 0.5])


class Pair(NamedTuple):
    w: Any
    b: Any


@jax.tree_util.register_dataclass
@dataclass
class Linear:
    w: Any
    b: Any


def named(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


TREES: dict[str, Callable[[Any, Any], Any]] = {
    "array": lambda w, _: w,
    "list": lambda w, b: [w, (b,)],
    "namedtuple": Pair,
    "None": lambda w, _: {"w": w, "b": None},
    "keys in another order": lambda w, b: {"w": w, "b": b},
}


@pytest.mark.parametrize("tree", TREES)
def test_trees_known_to_both_are_accepted_unconverted(tree: str) -> None:
    w, b = np.arange(3, dtype=np.float32), np.full(2, 2, np.float32)
    params = TREES[tree](w, b)
    squares = jax.jit(lambda p: sum(jnp.sum(leaf**2) / 2 for leaf in jax.tree.leaves(p)))
    thalweg.SGD(params, lr=0.5).step(jax.grad(squares)(params))
    np.testing.assert_array_equal(w, np.arange(3, dtype=np.float32) / 2)
    if any(leaf is b for leaf in jax.tree.leaves(params)):
        np.testing.assert_array_equal(b, np.ones(2, np.float32))


def test_a_registered_class_trains_in_place_by_the_names_of_its_leaves() -> None:
    w, b = np.ones(3, np.float32), np.ones(2, np.float32)
    model = [Linear(w, b)]
    opt = thalweg.SGD(named(model), lr=0.5)
    assert [*opt.params] == ["0.w", "0.b"]
    grads = jax.jit(jax.grad(lambda m: jnp.sum(m[0].w) + 2 * jnp.sum(m[0].b)))(model)
    opt.step(named(grads))
    assert model[0].w is w
    assert (w.tolist(), b.tolist()) == ([0.5, 0.5, 0.5], [0.0, 0.0])


EXAMPLE_LIBRARIES: dict[str, tuple[Any, Callable[[Any], thalweg.Optimizer]]] = {
    "sgd": (optimizers.sgd(0.1), lambda p: thalweg.SGD(p, lr=0.1)),
    "momentum": (optimizers.momentum(0.05, 0.9), lambda p: thalweg.SGD(p, lr=0.05, momentum=0.9)),
    "nesterov": (
        optimizers.nesterov(0.05, 0.9),
        lambda p: thalweg.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    ),
    "adam": (
        optimizers.adam(0.02, b1=0.8, b2=0.95, eps=1e-3),
        lambda p: thalweg.Adam(p, lr=0.02, betas=(0.8, 0.95), eps=1e-3),
    ),
}


@pytest.mark.parametrize("name", EXAMPLE_LIBRARIES)
def test_trajectories_equal_those_of_the_example_libraries(name: str) -> None:
    (init, update, get_params), make = EXAMPLE_LIBRARIES[name]
    state = init(jax.tree.map(jnp.array, start()))
    params = start()
    opt = make(params)
    for i in range(60):
        state = update(i, jitted(get_params(state), X, Y)[1], state)
        opt.step(jitted(params, X, Y)[1])
        for one, two in zip(
            jax.tree.leaves(params), jax.tree.leaves(get_params(state)), strict=True
        ):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


OPTAX: dict[str, tuple[str, dict[str, Any], Callable[[Any], thalweg.Optimizer]]] = {
    "adam": ("adam", {"learning_rate": 0.02}, lambda p: thalweg.Adam(p, lr=0.02)),
    "adamw": (
        "adamw",
        {"learning_rate": 0.02, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.1},
        lambda p: thalweg.AdamW(p, lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
    ),
    "adamw, defaults": (
        "adamw",
        {"learning_rate": 0.02},
        lambda p: thalweg.AdamW(p, lr=0.02, weight_decay=1e-4),
    ),
    "sgd": (
        "sgd",
        {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
        lambda p: thalweg.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    ),
}


@pytest.mark.parametrize("name", OPTAX)
def test_trajectories_equal_those_of_optax(name: str) -> None:
    optax = pytest.importorskip("optax")
    rule, settings, make = OPTAX[name]
    theirs = jax.tree.map(jnp.array, start())
    other = getattr(optax, rule)(**settings)
    state = other.init(theirs)
    params = start()
    opt = make(params)
    for _ in range(60):
        updates, state = other.update(jitted(theirs, X, Y)[1], state, theirs)
        theirs = optax.apply_updates(theirs, updates)
        opt.step(jitted(params, X, Y)[1])
        for one, two in zip(jax.tree.leaves(params), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)

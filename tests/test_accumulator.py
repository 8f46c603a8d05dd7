"""Sums of gradients equal the reference bit for bit, and give the step of the whole batch."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg
from arrays import (
    assert_same_bits,
    bits,
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
from thalweg import Accumulator, reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from arrays import Array

weights = st.sampled_from([1.0, 3.0, 1 / 3, 1e-6, 1e30, 1e-30])


def summed(like: Array, grads: list[tuple[Array, float]]) -> Array:
    total = np.full_like(like, np.nan)  # the first addition overwrites it
    with np.errstate(all="ignore"):
        for step, (g, weight) in enumerate(grads, start=1):
            total = np.asarray(reference.accumulate(total, g, weight, step))
    return total


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_sums_equal_the_reference(data: st.DataObject) -> None:
    shape, dtype, rng = data.draw(shapes), data.draw(types), data.draw(generators)
    _, p = place(np.zeros(shape, dtype), data.draw(writable))
    grads = []
    for weight in data.draw(st.lists(weights, min_size=1, max_size=4)):
        values = numbers(rng, shape, data.draw(gradient_types), weight)
        grads.append((place(values, data.draw(readable))[1], weight))
    before = [bits(g) for g, _ in grads]
    expected = summed(p, grads)
    for level in thalweg.cpu_levels():
        acc = Accumulator({"p": p})
        with machine(level, data.draw(st.sampled_from([1, 3]))):
            for g, weight in grads:
                acc.add({"p": g}, weight)
        assert_same_bits(acc.grads["p"], expected)
        # Not `sum`, which compensates for rounding from Python 3.12 on.
        assert acc.weight == reduce(add, (weight for _, weight in grads))
        assert acc.count == len(grads)
    assert all(np.array_equal(bits(g), old) for (g, _), old in zip(grads, before, strict=True))


@pytest.mark.parametrize("layout", ["contiguous", "Fortran", "sliced"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_share_large_sums(dtype: str, layout: str) -> None:
    rng = np.random.default_rng(0)
    shape = (503, 499)
    grads = [(place(rng.standard_normal(shape), layout)[1], weight) for weight in (1.0, 2.5)]
    p = np.zeros(shape, dtype)
    for level in thalweg.cpu_levels():
        for threads in (1, 2, 3, 7):
            acc = Accumulator(p)
            with machine(level, threads):
                for g, weight in grads:
                    acc.add(g, weight)
            assert_same_bits(acc.grads["0"], summed(p, grads))


MAKE: dict[str, Callable[[Any], thalweg.Optimizer]] = {
    "SGD": lambda params: thalweg.SGD(params, 0.5, momentum=0.5),
    "SGDW": lambda params: thalweg.SGDW(params, 0.5, weight_decay=0.25),
    "Adam": lambda params: thalweg.Adam(params, lr=0.5),
    "AdamW": lambda params: thalweg.AdamW(params, lr=0.5),
}


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_batch_in_parts_gives_the_step_of_the_whole_batch(
    make: Callable[[Any], thalweg.Optimizer], dtype: str
) -> None:
    """Bit for bit, since the sums are exact: small integers, and a power of two of samples."""
    rng = np.random.default_rng(1)
    one, whole = {"w": np.ones((3, 4), dtype)}, {"w": np.ones((3, 4), dtype)}
    opt, other = make(one), make(whole)
    acc = Accumulator(opt)
    for _ in range(3):
        samples = rng.integers(-64, 64, (8, 3, 4)).astype(float)
        for part in np.split(samples, [2, 4]):  # means over 2, 2 and 4 samples
            acc.add({"w": part.mean(axis=0)}, weight=len(part))
        opt.step(acc.grads, scale=1 / acc.weight)
        acc.clear()
        other.step({"w": samples.mean(axis=0)})
        assert_same_bits(one["w"], whole["w"])


def test_uneven_parts_agree_with_the_whole_batch_within_rounding() -> None:
    rng = np.random.default_rng(2)
    samples = rng.standard_normal((7, 5))
    params = {"w": np.zeros(5)}
    opt = thalweg.SGD(params, 1.0)
    acc = Accumulator(opt)
    for part in np.split(samples, [1, 3]):
        acc.add({"w": part.mean(axis=0)}, weight=len(part))
    opt.step(acc.grads, scale=1 / acc.weight)
    assert np.abs(params["w"] + samples.mean(axis=0)).max() < 4 * np.finfo(float).eps


def test_none_leaves_a_parameter_out_and_the_step_skips_it() -> None:
    params = {"body": [np.ones(2), np.ones(2)], "head": np.ones(2)}
    opt = thalweg.AdamW(params)
    acc = Accumulator(opt)
    acc.add({"body": None, "head": np.ones(2)}, weight=2)
    acc.add({"body": [np.ones(2), None], "head": None}, weight=3)
    assert {name: None if g is None else g.tolist() for name, g in acc.grads.items()} == {
        "body.0": [3.0, 3.0],
        "body.1": None,
        "head": [2.0, 2.0],
    }
    opt.step(acc.grads, scale=1 / acc.weight)
    assert [opt.state[name]["step"] for name in opt.params] == [1, 0, 1]


def test_sums_keep_their_arrays_and_restart_after_clear() -> None:
    acc = Accumulator({"w": np.ones(3, np.float32), "b": np.ones(())})
    acc.add({"w": np.full(3, np.nan), "b": np.float64(2.0)})
    held = acc.grads
    acc.clear()
    assert (acc.count, acc.weight, acc.grads) == (0, 0.0, {"w": None, "b": None})
    acc.add({"w": np.ones(3), "b": np.float32(3.0)})
    assert all(acc.grads[name] is array for name, array in held.items())
    assert held["w"].tolist() == [1.0, 1.0, 1.0]
    assert held["b"] == 3.0


def test_a_step_refuses_a_nonfinite_sum_and_names_it() -> None:
    opt = thalweg.AdamW({"w": np.ones(2), "b": np.ones(2)})
    acc = Accumulator(opt)
    acc.add({"w": np.array([1.0, np.nan]), "b": np.ones(2)})
    acc.add({"w": np.ones(2), "b": np.ones(2)})
    with pytest.raises(thalweg.NonFiniteError) as told:
        opt.step(acc.grads)
    assert told.value.nonfinite == {"w": 1}


def overlapping(acc: Accumulator) -> Any:
    return {"w": acc._mirrored.arrays["w"][::-1], "b": np.ones(2)}


REFUSED: dict[str, tuple[Callable[[Accumulator], Any], float, type[Exception], str]] = {
    "another shape": (
        lambda _: {"w": np.ones(3), "b": np.ones(2)},
        1,
        ValueError,
        "'w' must have the shape",
    ),
    "integers": (lambda _: {"w": np.ones(2), "b": np.ones(2, int)}, 1, TypeError, "got int64"),
    "masked": (lambda _: {"w": np.ma.ones(2), "b": np.ones(2)}, 1, TypeError, "masked"),
    "no array": (lambda _: {"w": np.ones(2), "b": "b"}, 1, TypeError, "got str"),
    "missing": (lambda _: {"w": np.ones(2)}, 1, ValueError, "missing: 'b'; give None"),
    "extra": (lambda _: {"w": None, "b": None, "c": None}, 1, ValueError, "unexpected: 'c'"),
    "all None": (lambda _: {"w": None, "b": None}, 1, ValueError, "at least one"),
    "the sum itself": (overlapping, 1, ValueError, "the sum of 'w' and the gradient of 'w' share"),
    "weight 0": (lambda _: {"w": np.ones(2), "b": None}, 0, ValueError, "^weight must be"),
    "weight NaN": (lambda _: {"w": np.ones(2), "b": None}, np.nan, ValueError, "^weight must be"),
    "weight too large": (
        lambda _: {"w": np.ones(2), "b": np.ones(2)},
        1e39,
        ValueError,
        "^weight must be small enough",
    ),
    "weight True": (lambda _: {"w": np.ones(2), "b": None}, True, TypeError, "^weight must be"),
}


@pytest.mark.parametrize(("grads", "weight", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_a_refused_addition_changes_nothing(
    grads: Callable[[Accumulator], Any], weight: float, error: type[Exception], message: str
) -> None:
    acc = Accumulator({"w": np.ones(2), "b": np.ones(2, np.float32)})
    acc.add({"w": np.ones(2), "b": np.ones(2)}, 2.0)
    before = repr(acc.state_dict())
    with pytest.raises(error, match=message):
        acc.add(grads(acc), weight)
    assert repr(acc.state_dict()) == before
    acc.add({"w": np.ones(2), "b": None})
    assert acc.grads["w"].tolist() == [3.0, 3.0]

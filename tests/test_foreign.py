"""Gradients that are arrays of another library are read through `__array__`, as by NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from conftest import snapshot
from thalweg import functional

if TYPE_CHECKING:
    from collections.abc import Callable


class Foreign:
    """An array of another library, which NumPy converts through `__array__`."""

    def __init__(self, give: Callable[[], Any]) -> None:
        self.give = give
        self.asked = 0

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        self.asked += 1
        return self.give()


def tree(leaf: Callable[[np.ndarray[Any, Any]], Any]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"a": {"w": leaf(rng.standard_normal((3, 4)))}, "b": leaf(rng.standard_normal(5))}


def flat(leaf: Callable[[np.ndarray[Any, Any]], Any]) -> dict[str, Any]:
    return thalweg.tree.flatten(tree(leaf))


GIVEN = {"tree": tree, "flat": flat}


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_foreign_gradients_give_the_same_bits_as_ndarrays(given: Any) -> None:
    one, other = tree(np.zeros_like), tree(np.zeros_like)
    thalweg.AdamW(one).step(given(lambda g: Foreign(lambda: g)), max_norm=0.5)
    thalweg.AdamW(other).step(given(np.array), max_norm=0.5)
    assert one["b"].any()
    for name, array in thalweg.tree.flatten(one).items():
        np.testing.assert_array_equal(array, thalweg.tree.flatten(other)[name])


def test_a_gradient_is_converted_once_and_only_if_its_parameter_trains() -> None:
    grads = tree(lambda g: Foreign(lambda: g))
    opt = thalweg.AdamW(tree(np.zeros_like), groups=[{"match": "b", "frozen": True}])
    opt.step(grads, max_norm=1.0, stats=True)
    assert (grads["a"]["w"].asked, grads["b"].asked) == (1, 0)


def test_a_gradient_that_shares_memory_with_a_parameter_is_refused() -> None:
    w = np.ones(4)
    with pytest.raises(ValueError, match="share memory"):
        thalweg.AdamW({"w": w}).step({"w": Foreign(lambda: w[::-1])})
    assert (w == 1.0).all()


def entries() -> dict[str, Callable[[Any], Any]]:
    w = np.zeros(3)

    def in_open_step(g: Any) -> None:
        with thalweg.SGD({"w": w}, lr=0.1).open_step() as step:
            step({"w": g})

    return {
        "step": lambda g: thalweg.SGD({"w": w}, lr=0.1).step({"w": g}),
        "open_step": in_open_step,
        "accumulator": lambda g: thalweg.Accumulator({"w": w}).add({"w": g}),
        "functional": lambda g: functional.sgd([w], [g], None, 1, lr=0.1),
        "global_norm": lambda g: functional.global_norm({"w": g}),
    }


@pytest.mark.parametrize("entry", entries())
def test_every_function_accepts_them_and_names_an_unreadable_one(entry: str) -> None:
    def refuse() -> Any:
        raise ValueError("it is elsewhere: use x.get()\nand a long story")

    enter = entries()[entry]
    enter(Foreign(lambda: np.ones(3)))
    with pytest.raises(
        TypeError,
        match=r"(w'|g\[0\]) must be convertible .*, got .*; it is elsewhere: use x.get\(\)$",
    ) as raised:
        enter(Foreign(refuse))
    assert "long story" in str(raised.value.__cause__)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError, thalweg.BusyError])
def test_other_exceptions_propagate_and_nothing_is_changed(
    error: type[BaseException],
) -> None:
    def fail() -> Any:
        raise error("no")

    opt = thalweg.AdamW(tree(np.zeros_like))
    kept = snapshot(opt)
    with pytest.raises(error, match="no"):
        opt.step({"a": {"w": np.ones((3, 4))}, "b": Foreign(fail)})
    assert snapshot(opt) == kept


def test_the_optimizer_is_busy_during_a_conversion() -> None:
    opt = thalweg.AdamW({"w": np.zeros(3)})
    with pytest.raises(thalweg.BusyError):
        opt.step({"w": Foreign(lambda: opt.step({"w": np.ones(3)}))})
    assert opt.step_count == 0


@pytest.mark.parametrize("entry", ["step", "functional", "global_norm"])
def test_a_conversion_that_resizes_another_gradient_is_detected(entry: str) -> None:
    first = np.ones(100_000)

    def shrink() -> Any:
        first.resize(4, refcheck=False)
        return np.ones(4)

    second = Foreign(shrink)
    if entry == "global_norm":
        assert functional.global_norm({"a": first, "b": second}) == np.sqrt(8)
        return
    params = [np.zeros(100_000), np.zeros(4)]
    update = {
        "step": thalweg.SGD(params, lr=0.1).step,
        "functional": lambda grads: functional.sgd(params, grads, None, 1, lr=0.1),
    }[entry]
    with pytest.raises(ValueError, match=r"must have the shape of its parameter, .*, got \(4,\)"):
        update([first, second])
    assert not any(p.any() for p in params)


def test_converted_arrays_are_checked_like_any_array() -> None:
    opt = thalweg.AdamW({"w": np.zeros(3)})
    with pytest.raises(TypeError, match=r"the gradient of 'w' must have dtype .*, got int64"):
        opt.step({"w": Foreign(lambda: np.ones(3, np.int64))})
    with pytest.raises(ValueError, match="must have the shape"):
        opt.step({"w": Foreign(lambda: np.ones((3, 1)))})
    with pytest.raises(thalweg.NonFiniteError):
        opt.step({"w": Foreign(lambda: np.full(3, np.nan))})


def test_foreign_parameters_are_refused() -> None:
    with pytest.raises(TypeError, match=r"parameter 'w' must be .*, got .*Foreign"):
        thalweg.AdamW({"w": Foreign(lambda: np.zeros(3))})


def test_gradients_that_are_no_tree_are_refused() -> None:
    opt = thalweg.AdamW({"a": {"w": np.zeros(3)}, "b": np.zeros(2)})
    with pytest.raises(TypeError, match=r"the gradients must be a tree .*, got set;"):
        opt.step({1.0})
    with pytest.raises(ValueError, match=r"missing: 'a\.w', 'b'; unexpected: '0'"):
        opt.step(Foreign(lambda: np.zeros(3)))

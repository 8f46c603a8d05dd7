"""Trees: containers of parameters, names of leaves, and gradients that fit."""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict, namedtuple
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg
from conftest import unchanged
from thalweg.tree import flatten, unflatten

Layer = namedtuple("Layer", "w b")  # noqa: PYI024
Swapped = namedtuple("Swapped", "b w")  # noqa: PYI024


class Typed(NamedTuple):
    first: Any
    second: Any


def one(value: float = 0.0) -> np.ndarray:
    return np.full(2, float(value))


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        (one(), ["0"]),
        ({"w": one(), "b": one()}, ["w", "b"]),
        ([one(), one()], ["0", "1"]),
        ((one(), one()), ["0", "1"]),
        (Layer(one(), one()), ["w", "b"]),
        (Typed(one(), [one()]), ["first", "second.0"]),
        ({3: one(), np.int64(1): one()}, ["3", "1"]),
        (OrderedDict(a=one()), ["a"]),
        (UserDict(a=one(), b=[one()]), ["a", "b.0"]),
        (MappingProxyType({"a": UserDict(b=one())}), ["a.b"]),
        ({"layers": [{"w": one()}, None, {"w": one()}]}, ["layers.0.w", "layers.2.w"]),
        ({"a": None, "b": {}, "c": [], "d": one()}, ["d"]),
        ({"a.b": one()}, ["a.b"]),
        ([[[(one(),)]]], [".".join("0000")]),
    ],
    ids=str,
)
def test_a_leaf_is_called_by_its_path(tree: Any, names: list[str]) -> None:
    opt = thalweg.SGD(tree, lr=1.0)
    assert list(opt.params) == list(flatten(tree)) == names
    assert all(opt.params[name] is leaf for name, leaf in flatten(tree).items())
    opt.step({name: one(1.0) for name in names})
    assert all((leaf == -1.0).all() for leaf in flatten(tree).values())


def model() -> dict[str, Any]:
    return {"fc": Layer(one(), one()), "out": [one(), None], "scale": (one(),)}


MODEL_GRADS = [
    {"fc": Layer(one(1), one(2)), "out": [one(3), None], "scale": (one(4),)},
    {"scale": (one(4),), "out": [one(3), None], "fc": Layer(one(1), one(2))},
    {"fc": [one(1), one(2)], "out": (one(3), None), "scale": [one(4)]},
    {"fc": {"b": one(2), "w": one(1)}, "out": {0: one(3)}, "scale": {"0": one(4)}},
    {"fc.w": one(1), "fc.b": one(2), "out.0": one(3), "scale.0": one(4)},
    {"scale.0": one(4), "out": [one(3)], "fc.w": one(1), "fc": {"b": one(2)}},
    {"fc": Swapped(w=one(1), b=one(2)), "out": [one(3), None], "scale": (one(4),)},
    UserDict(fc=UserDict(w=one(1), b=one(2)), out=[one(3), None], scale=(one(4),)),
    defaultdict(list, fc=Layer(one(1), one(2)), out=[one(3), None], scale=[one(4)]),
]
# Equal keys that are other objects.
MODEL_GRADS.append({"".join(key): child for key, child in MODEL_GRADS[0].items()})


@pytest.mark.parametrize("grads", MODEL_GRADS, ids=str)
def test_gradients_find_their_parameters_by_name(grads: Any) -> None:
    params = model()
    thalweg.SGD(params, lr=1.0).step(grads)
    assert {name: leaf[0] for name, leaf in flatten(params).items()} == {
        "fc.w": -1,
        "fc.b": -2,
        "out.0": -3,
        "scale.0": -4,
    }


@pytest.mark.parametrize(
    ("grads", "partial", "stepped"),
    [
        ({"fc": None, "out": [one()], "scale": None}, False, ["out.0"]),
        ({"fc": Layer(one(), None), "out": None, "scale": [one()]}, False, ["fc.w", "scale.0"]),
        ({"fc": None, "out.0": one(), "scale": None}, False, ["out.0"]),
        ({"fc.w": None, "fc.b": one(), "out": None, "scale": None}, False, ["fc.b"]),
        ({"out": [one(), None]}, True, ["out.0"]),
        ({"out": {"0": one(), "1": None}}, True, ["out.0"]),
        ({"fc": {"w": one()}, "scale": None}, True, ["fc.w"]),
    ],
    ids=str,
)
def test_none_and_partial_skip_parameters(grads: Any, partial: bool, stepped: list[str]) -> None:
    opt = thalweg.AdamW(model())
    opt.step(grads, partial=partial)
    assert [name for name, leaf in opt.state.items() if leaf["step"]] == stepped


@pytest.mark.parametrize(
    ("grads", "partial", "named"),
    [
        ({"fc": Layer(one(), one()), "out": [one()]}, False, ["scale.0", "partial=True"]),
        ({"out.0": one(), "scale.0": one()}, False, ["fc.w", "fc.b"]),
        ({"out.0": one(), "layer": one()}, True, ["layer"]),
        ({"out": [one(), one()]}, True, ["out.1"]),
        ({"fc": Layer(one(), one()), "out": [one()], "scael": one()}, False, ["scale.0", "scael"]),
        ({"out.0": one(), "oops": None}, True, ["oops"]),
        ({"out.0": one(), "out": [one()]}, True, ["out.0"]),
        ({"fc.w": one(), "fc": None, "out.0": one()}, True, ["fc.w"]),
        (one(), True, ["'0'|\"0\""]),
        (None, False, ["gradient"]),
        ({"fc": None, "out": None, "scale": None}, False, ["gradient"]),
        ({}, True, ["gradient"]),
        ({}, False, ["fc.w", "fc.b", "out.0", "scale.0"]),
    ],
    ids=str,
)
def test_gradients_that_do_not_fit_are_refused(grads: Any, partial: bool, named: list[str]) -> None:
    opt = thalweg.AdamW(model())
    for name in named:
        with unchanged(opt), pytest.raises(ValueError, match=name):
            opt.step(grads, partial=partial)


class Clearing(str):
    """A key that empties its dict when it is compared."""

    __slots__ = ("held",)
    held: dict[str, Any]
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        self.held.clear()
        return str.__eq__(self, other)


def test_a_dict_that_changes_while_gradients_are_looked_up_is_refused() -> None:
    key = Clearing("b")
    key.held = grads = {key: one(), "a": one(), "c": one()}
    opt = thalweg.AdamW({name: one() for name in "abc"})
    with unchanged(opt), pytest.raises(ValueError, match="'b', 'c'"):
        opt.step(grads)
    assert not grads


def cycle() -> list[Any]:
    tree: list[Any] = [one()]
    tree.append(tree)
    return tree


@pytest.mark.parametrize(
    ("tree", "error", "message"),
    [
        ({}, ValueError, "at least one array"),
        ([], ValueError, "at least one array"),
        (None, ValueError, "at least one array"),
        ({"a": [None, {}]}, ValueError, "at least one array"),
        ({"a": {"b": one()}, "a.b": one()}, ValueError, "'a.b'"),
        ({1: one(), "1": one()}, ValueError, "'1'"),
        ({2.5: one()}, TypeError, "must be a string or an integer, got float"),
        ({"a": {None: one()}}, TypeError, "'a'.*NoneType"),
        ({("a", "b"): one()}, TypeError, "tuple"),
        (cycle(), ValueError, "contains itself"),
    ],
    ids=repr,
)
def test_trees_without_arrays_or_unique_names_are_refused(
    tree: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        thalweg.AdamW(tree)


@pytest.mark.parametrize("order", [["a", "b", "c"], ["c", "a", "b"]])
def test_the_order_of_a_container_does_not_matter(order: list[str]) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=5).astype(np.float32) for name in "abc"}
    grads = {name: rng.normal(size=5).astype(np.float32) for name in "abc"}
    straight = {name: array.copy() for name, array in arrays.items()}
    params = {name: arrays[name].copy() for name in order}
    expected = thalweg.AdamW(straight).step(grads, max_norm=0.1)
    assert thalweg.AdamW(params).step(grads, max_norm=0.1) == expected
    assert all(np.array_equal(params[name], straight[name]) for name in "abc")


keys = st.text("abc", min_size=1, max_size=3) | st.integers(0, 99)
trees = st.recursive(
    st.none() | st.floats(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.builds(Layer, children, children)
        | st.dictionaries(keys, children, max_size=3)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(trees)
def test_unflatten_undoes_flatten(tree: Any) -> None:
    flat = {name: object() for name in flatten(tree)}
    rebuilt = unflatten(flat, tree)
    assert flatten(rebuilt) == flat
    assert repr(unflatten(flatten(tree), rebuilt)) == repr(tree)


@pytest.mark.parametrize("flat", [{}, {"a": 1, "b": 2}, {"b": 1}])
def test_unflatten_refuses_other_names(flat: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="'a'" if "a" not in flat else "'b'"):
        unflatten(flat, {"a": 0})

"""Sums of micro-batches in a fixed tree."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import thalweg
from thalweg.averages.leaves import merges, spans


def text(leaves: range) -> str:
    """The sum of leaves, by the definition: halves of the widest aligned node, then the rest."""
    if len(leaves) == 1:
        return str(leaves.start)
    width = 1
    while 2 * width <= len(leaves):
        width *= 2
    if width == len(leaves):
        half = leaves.start + width // 2
        return f"({text(range(leaves.start, half))}+{text(range(half, leaves.stop))})"
    rest = leaves.start + width
    return f"({text(range(leaves.start, rest))}+{text(range(rest, leaves.stop))})"


@given(leaves=st.integers(1, 70), cuts=st.lists(st.integers(0, 70)))
def test_the_tree_does_not_depend_on_where_the_leaves_are_cut(leaves: int, cuts: list[int]) -> None:
    ends = sorted({0, leaves, *(cut for cut in cuts if cut < leaves)})
    parts = [span for a, b in pairwise(ends) for span in spans(range(a, b))]
    sums = [text(range(start, start + width)) for start, width in parts]
    for left, right in merges(parts):
        sums[left] = f"({sums[left]}+{sums[right]})"
    assert sums[0] == text(range(leaves))


@pytest.mark.parametrize("leaves", range(1, 20))
def test_sums_have_the_bits_of_the_tree(leaves: int) -> None:
    rng = np.random.default_rng(leaves)
    drawn = [rng.standard_normal(50, np.float32) for _ in range(leaves)]
    params = {"w": np.zeros(50, np.float32)}
    total = thalweg.sums(params)
    for grads in drawn:
        total.add({"w": grads})

    names = {str(leaf): grads for leaf, grads in enumerate(drawn)}
    expected = value(text(range(leaves)), names)
    assert total.count == leaves
    assert total["w"].tobytes() == expected.tobytes()


def value(sums: str, named: dict[str, Any]) -> Any:
    """The value of a text of `text`."""
    if sums in named:
        return named[sums]
    depth = 0
    for i, letter in enumerate(sums):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "+" and depth == 1:
            return value(sums[1:i], named) + value(sums[i + 1 : -1], named)
    raise AssertionError(sums)


def test_weights_none_and_other_dtypes() -> None:
    params = {"a": np.zeros(2, np.float16), "b": [np.zeros(2), np.zeros(2, np.float32)]}
    total = thalweg.sums(params)
    total.add({"a": np.array([1, 2], np.float16), "b": [np.ones(2), None]}, weight=3)
    total.add({"a": np.array([1, 2], np.float32), "b": None}, weight=0.5)
    total.add({"a": None, "b": None})
    assert {name: None if a is None else a.dtype for name, a in total.items()} == {
        "a": np.float32,
        "b.0": np.float64,
        "b.1": None,
    }
    assert total["a"].tolist() == [3.5, 7.0]
    assert total["b.0"].tolist() == [3.0, 3.0]
    opt = thalweg.SGD(params, lr=1.0)
    opt.step(total)
    assert params["a"].tolist() == [-3.5, -7.0]
    total.clear()
    assert (total.count, total["a"]) == (0, None)


def test_rows_are_added_to_the_whole() -> None:
    total = thalweg.sums({"w": np.zeros((4, 2), np.float32)})
    total.add({"w": thalweg.Rows(np.array([1, 3]), np.ones((2, 2), np.float32))})
    total.add({"w": np.ones((4, 2), np.float32)})
    assert total["w"][:, 0].tolist() == [1.0, 2.0, 1.0, 2.0]


def test_an_optimizer_stands_for_what_it_trains() -> None:
    params = {"a": np.zeros(2), "b": np.zeros(2)}
    opt = thalweg.AdamW(params, groups=[{"match": "b", "frozen": True}])
    total = thalweg.sums(opt)
    total.add({"a": np.ones(2)})
    assert total["b"] is None
    opt.step(total)


def test_refusals_add_nothing() -> None:
    total = thalweg.sums({"w": np.zeros(2)})
    total.add({"w": np.ones(2)})
    for grads, error in (
        ({"w": np.ones(3)}, ValueError),
        ({"v": np.ones(2)}, ValueError),
        ({"w": "text"}, TypeError),
    ):
        with pytest.raises(error):
            total.add(grads)
    with pytest.raises(ValueError, match="weight must be"):
        total.add({"w": np.ones(2)}, weight=-1.0)
    assert total.count == 1
    assert total["w"].tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"call clear\(\)"):
        total.add({"w": np.ones(2)})
    with pytest.raises(ValueError, match="at least one array"):
        thalweg.sums({})
    assert repr(total) == "TreeSum(1 arrays, 1 leaves)"


def test_memory_is_that_of_the_partial_sums() -> None:
    total = thalweg.sums({"w": np.zeros(1000)})
    for leaves in range(1, 65):
        total.add({"w": np.ones(1000)})
        assert len(total._parts) == leaves.bit_count()
    made = {id(part.buffer) for part in total._parts}
    assert len(made) + len(total._buffers._free) <= 7

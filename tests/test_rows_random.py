"""Random rows of random arrays: the bits of the reference, or an error that changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg
from arrays import assert_same_bits, machine, numbers, place
from rules import LAZY
from thalweg import Rows, reference

LAYOUTS = ["contiguous", "Fortran", "last axis first", "sliced", "reversed", "offset"]
READ = [*LAYOUTS, "unaligned"]


@st.composite
def drawn(draw: st.DrawFn) -> dict[str, Any]:
    """A table with its state, each somewhere in memory, and rows that mostly fit."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = np.dtype(draw(st.sampled_from(["f4", "f8"])))
    row = draw(st.sampled_from([(), (1,), (3,), (64,), (2, 33), (0,)]))
    shape = (draw(st.integers(1, 9)), *row)
    indices = draw(st.lists(st.integers(0, shape[0] - 1), max_size=12))
    if draw(st.booleans()):
        indices = sorted(set(indices))
    if indices and draw(st.integers(0, 9)) == 0:
        indices[draw(st.integers(0, len(indices) - 1))] = shape[0]
    wide = np.dtype(draw(st.sampled_from(["f4", "f8"])))
    values = numbers(rng, int(np.prod([len(indices), *shape[1:]])), wide)
    made = [rng.standard_normal(shape).astype(dtype) for _ in range(4)]
    layouts = [draw(st.sampled_from(LAYOUTS)) for _ in made]
    return {
        "arrays": [place(abs(a), layout) for a, layout in zip(made, layouts, strict=True)],
        "values": place(values.reshape(len(indices), *shape[1:]), draw(st.sampled_from(READ)))[1],
        "indices": np.array(indices, draw(st.sampled_from(["i1", "u2", "i8", "u8"]))),
        "rule": LAZY[draw(st.sampled_from([name for name in LAZY if name != "AMSGradW"]))],
        "threads": draw(st.sampled_from([1, 2, 5])),
    }


@settings(max_examples=200, deadline=None)
@given(drawn())
def test_functions(case: dict[str, Any]) -> None:
    rule, indices, values = case["rule"], case["indices"], case["values"]
    placed = case["arrays"][: 1 + len(rule.state)]
    before = [(whole.copy(), array.copy()) for whole, array in placed]
    p, *state = (array for _, array in placed)
    rows = Rows(indices, values)
    given_values = values.copy()
    how = {**rule.typical, "threads": case["threads"]}
    fits = not len(indices) or indices.max() < len(p)
    if not fits:
        with pytest.raises(ValueError, match="below"):
            rule.apply(p, rows, state, 3, how)
        for (whole, _), (was, _) in zip(placed, before, strict=True):
            assert whole.tobytes() == was.tobytes()
        return
    with np.errstate(all="ignore"):
        chosen, sums = reference.sum_rows(indices, values, p.dtype)
        gathered = [array[chosen] for _, array in before]
        new = rule.define(gathered[0], sums, gathered[1:], 3, rule.typical)
    rule.apply(p, rows, state, 3, how)
    for (whole, array), (was, old), part in zip(placed, before, new, strict=True):
        expected = old.copy()
        expected[chosen] = part
        assert_same_bits(array, expected)
        array[...] = old
        assert whole.tobytes() == was.tobytes()  # also between the elements
    assert_same_bits(values, given_values)


@settings(max_examples=100, deadline=None)
@given(drawn(), st.sampled_from(["lazy", "dense", "row_steps"]))
def test_optimizers(case: dict[str, Any], meaning: str) -> None:
    rule, (_, p) = case["rule"], case["arrays"][0]
    options = {"rows": "lazy", "row_steps": True} if meaning == "row_steps" else {"rows": meaning}
    options |= {"nonfinite": "ignore"}
    opt = rule.make({"e": p}, **options)
    twin = rule.make({"e": p.copy()}, **options)
    with machine(threads=case["threads"]):
        for _ in range(2):
            indices, values = case["indices"], case["values"]
            if len(indices) and indices.max() >= len(p):
                return
            opt.step({"e": Rows(indices, values)})
            with np.errstate(all="ignore"):
                chosen, sums = reference.sum_rows(indices, values, p.dtype)
            with machine(level=thalweg.cpu_levels()[-1]):
                twin.step({"e": Rows(chosen[::-1], sums[::-1])})
    assert_same_bits(opt.params["e"], twin.params["e"])
    for key, array in twin.state["e"].items():
        if key == "row_steps":
            assert array.tolist() == opt.state["e"][key].tolist()
        elif key != "step":
            assert_same_bits(opt.state["e"][key], array)

"""The core equals `thalweg.reference` bit for bit, for any CPU level, threads and memory layout."""

from __future__ import annotations

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
    steps,
    types,
    writable,
)
from rules import Rule, every_rule


@every_rule
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_core_equals_reference(rule: Rule, data: st.DataObject) -> None:
    options, step = data.draw(st.fixed_dictionaries(rule.options)), data.draw(steps)
    shape, dtype, gradient_type = data.draw(shapes), data.draw(types), data.draw(gradient_types)
    rng, threads = data.draw(generators), data.draw(st.sampled_from([1, 2, 3, 7]))
    layouts = data.draw(
        st.lists(writable, min_size=1 + len(rule.state), max_size=1 + len(rule.state))
    )

    written = [numbers(rng, shape, dtype) for _ in layouts]
    written[2:] = map(np.abs, written[2:])  # the second moment and its maximum
    _, g = place(numbers(rng, shape, gradient_type, options["scale"]), data.draw(readable))
    given_bits = bits(g)
    expected = rule.define(written[0], g, written[1:], step, options)

    for level in thalweg.cpu_levels():
        placed = [place(x, layout) for x, layout in zip(written, layouts, strict=True)]
        (_, p), *state = placed
        with machine(level):
            assert rule.apply(p, g, [s for _, s in state], step, options, threads=threads)
        for x, layout, (memory, _) in zip(expected, layouts, placed, strict=True):
            assert_same_bits(memory, place(x, layout)[0])  # nothing is written beside it
        assert np.array_equal(bits(g), given_bits)


@every_rule
@pytest.mark.parametrize(
    ("dtype", "shape", "layout"),
    [("float32", (1_000_003,), "contiguous"), ("float64", (1009, 997), "Fortran")],
)
def test_threads_share_large_arrays(
    rule: Rule, dtype: str, shape: tuple[int, ...], layout: str
) -> None:
    rng = np.random.default_rng(0)
    written = [rng.standard_normal(shape).astype(dtype) for _ in range(1 + len(rule.state))]
    written[2:] = map(np.abs, written[2:])
    g = rng.standard_normal(shape).astype(dtype)
    expected = rule.define(written[0], g, written[1:], 3, rule.typical)
    for level in thalweg.cpu_levels():
        for threads in (1, 2, 3, 7):
            p, *state = (place(x, layout)[1] for x in written)
            with machine(level, threads):
                assert rule.apply(p, g, state, 3, rule.typical)
            for got, x in zip([p, *state], expected, strict=True):
                assert_same_bits(got, x)

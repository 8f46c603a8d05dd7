"""Functions give the same bits for slices and for lists of arrays as for whole, single arrays."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg
from arrays import Array, assert_same_bits, generators, machine, numbers, steps, types
from rules import Rule, every_rule

levels = st.sampled_from(thalweg.cpu_levels())


def arrays(rule: Rule, rng: np.random.Generator, n: int, dtype: np.dtype) -> list[Array]:
    """A parameter, its gradient and its state."""
    p, g, *state = (numbers(rng, (3, n), dtype) for _ in range(2 + len(rule.state)))
    return [p, g, *state[:1], *map(np.abs, state[1:])]


def update(rule: Rule, arrays: list[Array], step: int, level: str) -> None:
    p, g, *state = arrays
    with machine(level):
        assert rule.apply(p, g, state, step, rule.typical)


@every_rule
@settings(max_examples=60, deadline=None)
@given(
    rng=generators,
    n=st.integers(1, 100),
    dtype=types,
    step=steps,
    cuts=st.lists(st.tuples(st.integers(0, 300), levels), max_size=5),
    columns=st.booleans(),
)
def test_slices_add_up_to_the_whole(
    *,
    rule: Rule,
    rng: np.random.Generator,
    n: int,
    dtype: np.dtype,
    step: int,
    cuts: list[tuple[int, str]],
    columns: bool,
) -> None:
    whole = arrays(rule, rng, n, dtype)
    sliced = [x.copy() for x in whole]
    update(rule, whole, step, "baseline")

    cut = sliced if columns else [x.reshape(-1) for x in sliced]
    start = 0
    for end, level in [*sorted(cuts), (None, "baseline")]:
        update(rule, [x[..., start:end] for x in cut], step, level)
        start = end
    for got, expected in zip(sliced, whole, strict=True):
        assert_same_bits(got, expected)


@every_rule
@settings(max_examples=10, deadline=None)
@given(
    rng=generators,
    kinds=st.lists(st.tuples(st.sampled_from([0, 1, 17, 5000, 30_000]), types), max_size=5),
    step=steps,
    threads=st.sampled_from([1, 2, 3, 7]),
    level=levels,
)
def test_a_list_of_arrays_equals_one_by_one(
    *,
    rule: Rule,
    rng: np.random.Generator,
    kinds: list[tuple[int, np.dtype]],
    step: int,
    threads: int,
    level: str,
) -> None:
    one_by_one = [arrays(rule, rng, n, dtype) for n, dtype in kinds]
    together = [[x.copy() for x in tensor] for tensor in one_by_one]
    for tensor in one_by_one:
        update(rule, tensor, step, "baseline")

    p, g, *state = map(list, zip(*together, strict=True)) if kinds else [[]] * (2 + len(rule.state))
    with machine(level):
        assert rule.apply(p, g, state, step, rule.typical, threads=threads)
    for got, expected in zip(together, one_by_one, strict=True):
        for x, y in zip(got, expected, strict=True):
            assert_same_bits(x, y)

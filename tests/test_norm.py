"""The global norm has the reference's bits on every machine and layout; clipping by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg
from arrays import Array, assert_same_bits, generators, machine, numbers, place, readable, types
from thalweg import functional, reference

if TYPE_CHECKING:
    from collections.abc import Iterator

# The reference lets squares overflow in order to detect it.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

levels = st.sampled_from(thalweg.cpu_levels())
names = st.text("ab.10é\U0001f600", min_size=1, max_size=3)
# Around the lanes (16), tiles (1,024) and blocks (16,384) of the sum.
sizes = st.sampled_from([0, 1, 15, 16, 17, 33, 1023, 1024, 1040, 16_383, 16_384, 16_400, 32_769])
shapes = sizes.flatmap(lambda n: st.sampled_from([(n,), (3, n), (n, 2)]))


def leaf(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Numbers of such different magnitudes that each order of addition gives other bits."""
    return (rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 2, shape)).astype(dtype)


def assert_same(got: float, expected: float) -> None:
    assert isinstance(got, float)
    assert got == expected or (np.isnan(got) and np.isnan(expected))


def norms(grads: dict[str, Array]) -> Iterator[float]:
    """Norms by the core at every CPU level with 1, 2, 3 and 7 threads."""
    for level in thalweg.cpu_levels():
        for threads in (1, 2, 3, 7):
            with machine(level, threads):
                yield functional.global_norm(grads)


@settings(max_examples=60, deadline=None)
@given(
    rng=generators,
    kinds=st.dictionaries(names, st.tuples(shapes, types, readable), max_size=4),
    level=levels,
    threads=st.sampled_from([1, 2, 3, 7]),
)
def test_norm_equals_reference(
    rng: np.random.Generator,
    kinds: dict[str, tuple[tuple[int, ...], np.dtype, str]],
    level: str,
    threads: int,
) -> None:
    grads = {
        name: place(leaf(rng, shape, dtype), layout)[1]
        for name, (shape, dtype, layout) in kinds.items()
    }
    with machine(level, threads):
        got = functional.global_norm(grads)
    assert got == reference.global_norm(grads)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1_000_003,), (1009, 997), (11, 307, 301)])
@pytest.mark.parametrize("layout", ["contiguous", "Fortran", "sliced", "last axis first"])
def test_norm_of_large_arrays_equals_reference(
    shape: tuple[int, ...], dtype: np.dtype, layout: str
) -> None:
    rng = np.random.default_rng(0)
    grads = {"w": place(leaf(rng, shape, dtype), layout)[1], "b": leaf(rng, (70_000,), np.float64)}
    assert set(norms(grads)) == {reference.global_norm(grads)}


def test_norm_does_not_depend_on_the_order_of_containers() -> None:
    rng = np.random.default_rng(0)
    grads = {str(i): leaf(rng, (50,), np.float64) for i in range(12)}
    expected = reference.global_norm(grads)
    assert functional.global_norm(list(grads.values())) == expected  # names "0", "1", "10", ...
    assert functional.global_norm(dict(reversed(grads.items()))) == expected
    assert functional.global_norm({"a": grads["0"], "b": {"c": grads["1"]}}) == (
        reference.global_norm({"a": grads["0"], "b.c": grads["1"]})
    )


@settings(max_examples=200, deadline=None)
@given(rng=generators, size=st.sampled_from([1, 17, 1000]), dtype=types, level=levels)
def test_norm_of_any_numbers_equals_reference(
    rng: np.random.Generator, size: int, dtype: np.dtype, level: str
) -> None:
    g = numbers(rng, (size,), dtype)
    with machine(level), np.errstate(all="ignore"):
        assert_same(functional.global_norm(g), reference.global_norm({"0": g}))


@pytest.mark.parametrize(
    ("values", "dtype", "norm"),
    [
        ([3e200, 4e200], "float64", 5e200),  # the squares overflow but the norm does not
        ([1e308] * 4, "float64", np.inf),  # the norm overflows too
        ([1e38] * 4, "float32", float(np.float32(1e38)) * 2),
        ([1e-40, 1e-45], "float32", 0.0),  # subnormal numbers count as zero
        ([3.0, np.inf], "float64", np.inf),
        ([3.0, np.nan, np.inf], "float32", np.nan),
        ([1e200, np.nan], "float64", np.nan),
        ([], "float32", 0.0),
    ],
)
def test_extreme_norms_equal_the_reference(values: list[float], dtype: str, norm: float) -> None:
    g = np.array(values, dtype)
    assert_same(functional.global_norm(g), reference.global_norm({"g": g}))
    assert functional.global_norm(g) == pytest.approx(norm, rel=1e-15, nan_ok=True)


OPTIMIZERS = {
    "AdamW": (lambda p: thalweg.AdamW(p, lr=0.1, weight_decay=0.1), 2),
    "SGD": (lambda p: thalweg.SGD(p, lr=0.1), 0),
}


@pytest.mark.parametrize("rule", OPTIMIZERS)
@pytest.mark.parametrize("scale", [1.0, 0.25, 1 / 3])
@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1 / 3, 1e9])
@pytest.mark.parametrize("magnitude", [1.0, 1e10, 1e-10, 1e200])
def test_step_clips_by_the_norm_it_reports(
    rule: str, scale: float, max_norm: float, magnitude: float
) -> None:
    rng = np.random.default_rng(0)
    params = {"w": rng.standard_normal((40, 50)), "b": rng.standard_normal(7)}
    grads = {"w": magnitude * rng.standard_normal((50, 40)).T, "b": rng.standard_normal(7)}
    clip = reference.clip_factor(grads, max_norm, scale)
    make, states = OPTIMIZERS[rule]
    expected = {}
    for name, p in params.items():
        state = [np.zeros_like(p)] * states
        if states:
            out = reference.adam(
                p, grads[name], *state, 1, lr=0.1, weight_decay=0.1, scale=scale * clip
            )
        else:
            out = reference.sgd(p, grads[name], None, 1, lr=0.1, scale=scale * clip)
        expected[name] = out[0]

    report = make(params).step(grads, max_norm=max_norm, scale=scale)
    norm = scale * reference.global_norm(grads)
    assert (report.clip, report.grad_norm) == (clip, norm)
    assert clip == (1.0 if norm <= max_norm else pytest.approx(max_norm / norm, rel=1e-15))
    for name, p in params.items():
        assert_same_bits(p, expected[name])


def test_clipping_reaches_gradients_whose_norm_overflows() -> None:
    p, g = np.zeros(4), np.full(4, 1e308)
    report = thalweg.SGD(p, lr=1.0).step(g, max_norm=1.0)
    assert report.grad_norm == np.inf
    assert report.clip == reference.clip_factor({"0": g}, 1.0)
    assert p == pytest.approx([-0.5] * 4, rel=1e-15)


def test_the_norm_is_of_gradients_cast_to_the_type_of_their_parameters() -> None:
    p, g = np.zeros(3, np.float32), np.array([0.1, 0.2, 0.3])
    report = thalweg.SGD(p, lr=1.0).step(g, max_norm=1.0)
    assert report.grad_norm == reference.global_norm({"0": g.astype(np.float32)})


@settings(max_examples=60, deadline=None)
@given(rng=generators, shape=shapes, dtype=types, max_norm=st.sampled_from([1e-3, 1 / 3, 1e12]))
def test_clip_by_global_norm_equals_the_reference(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype, max_norm: float
) -> None:
    grads = {"w": leaf(rng, shape, dtype), "b": leaf(rng, (3, 2), np.float64).T[::-1]}
    before = {name: g.copy() for name, g in grads.items()}
    norm = functional.clip_by_global_norm(grads, max_norm)
    assert norm == reference.global_norm(before)
    clip = reference.clip_factor(before, max_norm)
    for name, g in grads.items():
        assert_same_bits(g, before[name] * g.dtype.type(clip))
    assert functional.global_norm(grads) <= max_norm * (1 + 1e-6)

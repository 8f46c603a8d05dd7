"""The core equals `thalweg.reference` bit for bit, whatever the machine and the memory layout.

What tests of bits have in common lives here too: the table of rules, inputs, comparison.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import thalweg
from thalweg import functional, reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Array = NDArray[Any]
Options = dict[str, Any]


class Rule(NamedTuple):
    """An update, the function that defines it, how many state arrays, and its options."""

    update: Callable[..., bool]
    definition: Callable[..., tuple[Array, ...]]
    states: int
    typical: Options
    options: dict[str, st.SearchStrategy[Any]]

    def _arguments(self, p: Any, g: Any, state: Sequence[Any], step: int) -> tuple[Any, ...]:
        if self.definition is reference.sgd:
            return (p, g, *(state or [None]), step), {}
        return (p, g, *state[:2], step), {"max_exp_avg_sq": (*state, None)[2]}

    def define(
        self, p: Array, g: Array, state: Sequence[Array], step: int, options: Options
    ) -> list[Array]:
        """New parameter and state, by the reference."""
        arrays, more = self._arguments(p, g, state, step)
        with np.errstate(all="ignore"):
            return [np.asarray(x) for x in self.definition(*arrays, **more, **options)]

    def apply(
        self, p: Any, g: Any, state: Sequence[Any], step: int, options: Options, **how: Any
    ) -> bool:
        """Update in place, by the core; whether it did."""
        arrays, more = self._arguments(p, g, state, step)
        return self.update(*arrays, **more, **options, **{"nonfinite": "ignore", **how})


# 1e-60 is zero in float32, and a term whose coefficient is zero is left out.
RATES = st.sampled_from([0.0, 1e-60, 1e-3, 1 / 3, 1.0])
BETAS = st.sampled_from([0.0, 0.3, np.nextafter(0.5, 0), 0.5, 0.7, 0.9, 0.999, 1 - 2**-53])
COMMON = {
    "lr": RATES,
    "maximize": st.booleans(),
    "scale": st.sampled_from([1.0, 0.5, 1 / 3, 3.7, 1e-6, 1e30, 1e-30]),
}
ADAM = {**COMMON, "betas": st.tuples(BETAS, BETAS), "eps": st.sampled_from([1e-8, 1e-15, 0.1])}
MOMENTUM = {**COMMON, "momentum": BETAS, "dampening": st.sampled_from([0.0, 1 / 3, 1.0])}
NESTEROV = {**COMMON, "momentum": BETAS.filter(bool), "nesterov": st.just(value=True)}
L2 = {"l2": RATES}
DECAY = {"weight_decay": RATES, "independent": st.booleans()}

adam, adamw = (functional.adam, reference.adam), (functional.adamw, reference.adam)
sgd, sgdw = (functional.sgd, reference.sgd), (functional.sgdw, reference.sgd)
l2, decay = {"lr": 0.01, "l2": 0.1}, {"lr": 0.01, "weight_decay": 0.1}
momentum = {"momentum": 0.9, "dampening": 0.1}
nesterov = {"momentum": 0.9, "nesterov": True}
RULES = {
    "Adam": Rule(*adam, 2, l2, ADAM | L2),
    "AMSGrad": Rule(*adam, 3, l2, ADAM | L2),
    "AdamW": Rule(*adamw, 2, decay, ADAM | DECAY),
    "AMSGradW": Rule(*adamw, 3, decay, ADAM | DECAY),
    "SGD": Rule(*sgd, 0, l2, COMMON | L2),
    "SGD, momentum": Rule(*sgd, 1, l2 | momentum, MOMENTUM | L2),
    "SGD, Nesterov": Rule(*sgd, 1, l2 | nesterov, NESTEROV | L2),
    "SGDW": Rule(*sgdw, 0, decay, COMMON | DECAY),
    "SGDW, momentum": Rule(*sgdw, 1, decay | momentum, MOMENTUM | DECAY),
    "SGDW, Nesterov": Rule(*sgdw, 1, decay | nesterov, NESTEROV | DECAY),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)

types = st.sampled_from([np.dtype(np.float32), np.dtype(np.float64)])
steps = st.sampled_from([1, 2, 10, 10**9, 10**12])
generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)
sizes = st.sampled_from([0, 1, 2, 15, 16, 17, 63, 64, 65, 1000])
shapes = st.just(()) | sizes.flatmap(lambda n: st.sampled_from([(n,), (3, n), (n, 2, 3)]))


@contextmanager
def machine(level: str | None = None, threads: int | None = None) -> Iterator[None]:
    """Run at a CPU level, on a number of threads."""
    before = thalweg.get_cpu_level(), thalweg.get_num_threads()
    try:
        thalweg.set_cpu_level(level or before[0])
        thalweg.set_num_threads(threads or before[1])
        yield
    finally:
        thalweg.set_cpu_level(before[0])
        thalweg.set_num_threads(before[1])


def bits(x: Array) -> Array:
    """The bits of an array, the same for every NaN."""
    return np.where(np.isnan(x), x.dtype.type(np.nan), x).view(f"u{x.itemsize}")


def assert_same_bits(got: Array, expected: Array) -> None:
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    differ = bits(got) != bits(expected)
    assert not differ.any(), [*zip(got[differ][:3], expected[differ][:3], strict=True)]


def edges(dtype: np.dtype[Any], scale: float) -> Array:
    """Zero, the limits of the type, every floor and its neighbours, of both signs."""
    limits, floors = np.finfo(dtype), reference.FLOORS[dtype]
    scaled = min(floors.grad / scale, float(limits.max))
    at = np.array([*floors, scaled, limits.smallest_subnormal, limits.max, 1], dtype)
    beside = [np.nextafter(at, dtype.type(0)), np.nextafter(at, dtype.type(np.inf))]
    magnitudes = np.concatenate([at, *beside, [0, np.inf, np.nan, limits.max**0.5]])
    return np.concatenate([magnitudes, -magnitudes]).astype(dtype)


def numbers(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any], scale: float = 1.0
) -> Array:
    """A mixture of ordinary numbers, random bits (all exponents alike) and edges."""
    size = int(np.prod(shape))
    with np.errstate(all="ignore"):
        kinds = [
            rng.standard_normal(shape).astype(dtype),
            np.frombuffer(rng.bytes(size * dtype.itemsize), dtype).reshape(shape),
            rng.choice(edges(dtype, scale), shape),
        ]
        share = rng.choice([(1.0, 0.0, 0.0), (0.4, 0.3, 0.3), (0.1, 0.0, 0.9)])
        return np.choose(rng.choice(3, shape, p=share), kinds)


def place(values: Array, layout: str) -> tuple[Array, Array]:
    """Some memory, and an array with these values somewhere in it."""
    shape, axes = values.shape, values.ndim

    def memory(*shape: int) -> Array:
        return np.full(shape, 7.0, values.dtype)

    match layout:
        case "contiguous":
            whole = array = memory(*shape)
        case "Fortran":
            whole = memory(*shape[::-1])
            array = whole.T
        case "last axis first":
            whole = memory(*shape[-1:], *shape[:-1])
            array = whole.transpose([*range(1, axes), 0][:axes])
        case "sliced":
            whole = memory(*[2 * n + 1 for n in shape])
            array = whole[(..., *[slice(1, None, 2)] * axes)]
        case "reversed":
            whole = memory(*shape)
            array = whole[(..., *[slice(None, None, -1)] * axes)]
        case "offset":
            whole = memory(values.size + 1)
            array = whole[1:].reshape(shape)
        case "unaligned":
            whole = np.zeros(values.nbytes + 1, np.uint8)
            array = whole[1:].view(values.dtype).reshape(shape)
        case "broadcast":
            whole = values[(..., *[slice(1)] * axes)]
            return whole, np.broadcast_to(whole, shape)
    array[...] = values
    return whole, array


WRITABLE = ["contiguous", "Fortran", "last axis first", "sliced", "reversed", "offset"]
writable = st.sampled_from(WRITABLE)
readable = st.sampled_from([*WRITABLE, "unaligned", "broadcast"])


@every_rule
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_core_equals_reference(rule: Rule, data: st.DataObject) -> None:
    options, step = data.draw(st.fixed_dictionaries(rule.options)), data.draw(steps)
    shape, dtype, gradient_type = data.draw(shapes), data.draw(types), data.draw(types)
    rng, threads = data.draw(generators), data.draw(st.sampled_from([1, 2, 3, 7]))
    layouts = data.draw(st.lists(writable, min_size=1 + rule.states, max_size=1 + rule.states))

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
            assert_same_bits(memory, place(x, layout)[0])  # and nothing written beside it
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
    written = [rng.standard_normal(shape).astype(dtype) for _ in range(1 + rule.states)]
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

"""Arrays for tests of bits: numbers of every kind, in every memory layout, and their comparison."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import thalweg
from thalweg import reference

try:
    import ml_dtypes
except ModuleNotFoundError:  # the tests on the oldest NumPy
    ml_dtypes = None

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = NDArray[Any]

types = st.sampled_from([np.dtype(np.float32), np.dtype(np.float64)])
halves = [np.dtype(np.float16)]
if ml_dtypes is not None:
    halves.append(np.dtype(ml_dtypes.bfloat16))
gradient_types = types | st.sampled_from(halves)
steps = st.sampled_from([1, 2, 10, 10**9, 10**12])
generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)
sizes = st.sampled_from([0, 1, 2, 15, 16, 17, 63, 64, 65, 1000])
shapes = st.just(()) | sizes.flatmap(lambda n: st.sampled_from([(n,), (3, n), (n, 2, 3)]))


@contextmanager
def machine(level: str | None = None, threads: int | None = None) -> Iterator[None]:
    """Set the CPU level and the number of threads inside the block."""
    before = thalweg.get_cpu_level(), thalweg.get_num_threads()
    try:
        thalweg.set_cpu_level(level or before[0])
        thalweg.set_num_threads(threads or before[1])
        yield
    finally:
        thalweg.set_cpu_level(before[0])
        thalweg.set_num_threads(before[1])


def bits(x: Array) -> Array:
    """Bits of an array as unsigned integers; all NaNs have the same bits."""
    return np.where(np.isnan(x), x.dtype.type(np.nan), x).view(f"u{x.itemsize}")


def assert_same_bits(got: Array, expected: Array) -> None:
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    differ = bits(got) != bits(expected)
    assert not differ.any(), [*zip(got[differ][:3], expected[differ][:3], strict=True)]


def edges(dtype: np.dtype[Any], scale: float) -> Array:
    """Special values of both signs: 0, infinity, NaN, limits of the type, floors and neighbours."""
    limits, floors = np.finfo(dtype), reference.FLOORS[dtype]
    scaled = min(floors.grad / scale, float(limits.max))
    at = np.array([*floors, scaled, limits.smallest_subnormal, limits.max, 1], dtype)
    beside = [np.nextafter(at, dtype.type(0)), np.nextafter(at, dtype.type(np.inf))]
    magnitudes = np.concatenate([at, *beside, [0, np.inf, np.nan, limits.max**0.5]])
    return np.concatenate([magnitudes, -magnitudes]).astype(dtype)


def numbers(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any], scale: float = 1.0
) -> Array:
    """A random mixture of ordinary numbers, random bits (exponents equally likely) and edges."""
    size = int(np.prod(shape))
    with np.errstate(all="ignore"):
        if dtype in halves:
            return numbers(rng, shape, np.dtype(np.float32), scale).astype(dtype)
        kinds = [
            rng.standard_normal(shape).astype(dtype),
            np.frombuffer(rng.bytes(size * dtype.itemsize), dtype).reshape(shape),
            rng.choice(edges(dtype, scale), shape),
        ]
        share = rng.choice([(1.0, 0.0, 0.0), (0.4, 0.3, 0.3), (0.1, 0.0, 0.9)])
        return np.choose(rng.choice(3, shape, p=share), kinds)


def place(values: Array, layout: str) -> tuple[Array, Array]:
    """New memory, and an array of the given layout in it that holds the values."""
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

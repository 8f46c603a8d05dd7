"""Random arrays of the boundary fuzzer, in one arena, and checks of them that use NumPy alone."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from operator import itemgetter
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

try:
    import ml_dtypes
except ModuleNotFoundError:
    ml_dtypes = None

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ARENA = 4096
REFUSALS = (TypeError, ValueError)
HALVES = [np.dtype("f2"), *([np.dtype(ml_dtypes.bfloat16)] if ml_dtypes else [])]


class FoundError(AssertionError):
    """A fault that the fuzzer has found."""


def expect(condition: object, what: str) -> None:
    if not condition:
        raise FoundError(what)


class Draw(Random):
    """Random source of an input."""

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def shape(self) -> tuple[int, ...]:
        return tuple(
            self.choice((0, 1, 1, 2, 3, 5, 17)) for _ in range(self.choice((0, 1, 1, 2, 3)))
        )

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.choice(("f4", "f8")))

    def gradient_dtype(self) -> np.dtype[Any]:
        return np.dtype(self.choice(("f4", "f4", "f8", *HALVES)))

    def values(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Mostly ordinary numbers; sometimes the ends of the type, infinity and NaN."""
        rng = np.random.default_rng(self.getrandbits(32))
        values = rng.standard_normal(shape)
        if self.chance(0.2):
            ends = [0.0, -0.0, 1e-45, 1e-40, 1e-30, 1e18, 2e19, 3e38, 5e-324, 1e160, 1e308]
            if self.chance(0.3):
                ends += [math.inf, -math.inf, math.nan]
            values = np.where(rng.random(shape) < 0.3, rng.choice(ends, shape), values)
        with np.errstate(all="ignore"):
            return np.asarray(values).astype(dtype)

    def number(self, *usual: Any) -> Any:
        """A hyperparameter: a usual value, an end of a range, or an invalid value."""
        if self.chance(0.96):
            return self.choice(usual)
        ends = (0.0, 5e-324, 1e-15, 1e-120, 0.5, 1.0, 1.5, 1e38, 1e39, 1e300, 1.8e308, -5e-324, -1)
        never = (math.nan, math.inf, -math.inf, 10**400, True, None, "1", 1j, [1.0], np.ones(2))
        return self.choice(ends if self.chance(0.6) else never)


@dataclass
class Arena:
    """Memory that arrays are cut from."""

    draw: Draw
    memory: np.ndarray = field(init=False)
    used: int = 0

    def __post_init__(self) -> None:
        self.memory = np.frombuffer(bytearray(self.draw.randbytes(ARENA)), np.uint8)

    def array(
        self,
        values: np.ndarray,
        *,
        apart: bool = True,
        aligned: bool = True,
        dense: bool = False,
    ) -> np.ndarray:
        """An array of these values in a random layout; unless `apart`, it may overlap others.

        If it is `dense`, it is contiguous in C order.
        """
        draw, size = self.draw, values.dtype.itemsize
        axes = list(reversed(range(values.ndim)))
        pick = itemgetter(0) if dense else draw.choice
        if not dense:
            draw.shuffle(axes)
        strides, reach, low = [0] * values.ndim, size, 0
        for axis in axes:
            stride = reach * pick((1, 1, 1, 2)) + size * pick((0, 0, 0, 1))
            strides[axis] = stride * pick((1, 1, 1, -1))
            span = stride * max(values.shape[axis] - 1, 0)
            low += span if strides[axis] < 0 else 0
            reach += span
        start = self.used if apart else draw.randrange(max(self.used, 1))
        start += -start % size + size * draw.choice((0, 0, 1))
        start += 0 if aligned or size == 1 else draw.randrange(1, size)
        if start + reach > ARENA:
            return values.copy()
        if apart:
            self.used = start + reach
        array = np.ndarray(values.shape, values.dtype, self.memory, start + low, strides)
        array[...] = values
        return array


def read_only(array: np.ndarray) -> np.ndarray:
    other = array.copy()
    other.setflags(write=False)
    return other


def folded(draw: Draw, array: np.ndarray) -> np.ndarray:
    """A view whose elements may share memory."""
    strides = [draw.choice((0, 1, 1, 2, 3, 7)) for _ in array.shape]
    reach = sum(stride * max(n - 1, 0) for n, stride in zip(array.shape, strides, strict=True))
    memory = np.resize(array, reach + 1)
    return as_strided(memory, array.shape, [stride * array.itemsize for stride in strides])


GRADIENTS = "fdeE"
"""Characters of the dtypes of gradients; E is bfloat16."""
OTHER_TYPES = ("f2", "g", "i4", "?", "c8", ">f4", ">f8", "O", "f8", "f4")
ODD: tuple[Callable[[Draw, Arena, np.ndarray], Any], ...] = (
    *[lambda draw, _, array: array.astype(draw.choice(OTHER_TYPES))] * 5,
    lambda draw, _, array: draw.choice((None, 1.0, "w", array.tolist(), memoryview(b"12"))),
    lambda draw, arena, array: arena.array(draw.values(draw.shape(), array.dtype)),
    lambda draw, _, array: folded(draw, array),
    lambda _, arena, array: arena.array(array, aligned=False),
    lambda _, __, array: np.broadcast_to(np.zeros((), array.dtype), array.shape),
    lambda _, __, array: read_only(array),
    lambda _, __, array: np.ma.array(array),
    lambda _, __, array: array[()] if array.ndim == 0 else array.T,
    lambda _, __, array: array.view(np.recarray),
    lambda _, __, array: np.asmatrix(array.ravel()),
)


def odd(draw: Draw, arena: Arena, array: np.ndarray) -> Any:
    """A replacement for an array, mostly invalid."""
    return draw.choice(ODD)(draw, arena, array)


def good(array: Any, *, types: str = "fd") -> bool:
    """Whether an object is an ndarray of one of these types, native and not masked."""
    return (
        isinstance(array, np.ndarray)
        and not isinstance(array, np.ma.MaskedArray)
        and array.dtype.char in types
        and array.dtype.isnative
    )


def readable(array: Any) -> bool:
    """Whether an object may be a gradient; NumPy scalars count as 0-d arrays."""
    scalar = isinstance(array, np.generic) and array.dtype.char in GRADIENTS
    return scalar or good(array, types=GRADIENTS)


def overlaps_itself(array: np.ndarray) -> bool:
    offsets = np.zeros(1, np.int64)
    for length, stride in zip(array.shape, array.strides, strict=True):
        offsets = (offsets[:, None] + np.arange(length) * stride).ravel()
    return bool((np.diff(np.sort(offsets)) < array.itemsize).any())


def writable(array: Any, *, types: str = "fd") -> bool:
    fits = good(array, types=types) and array.flags.writeable and array.flags.aligned
    return fits and not overlaps_itself(array)


def in_range(value: Any, low: float, high: float = math.inf, *, closed: bool = False) -> bool:
    """Whether a value is a number in the range of a hyperparameter."""
    if isinstance(value, bool | np.bool_ | str | complex | list | np.ndarray) or value is None:
        return False
    if not low <= value <= sys.float_info.max:
        return False
    return bool(value <= high if closed else value < high)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays have equal bits; all NaNs are equal."""
    one, other = np.asarray(one), np.asarray(other)
    bits = f"u{one.dtype.itemsize}"
    equal = np.ascontiguousarray(one).view(bits) == np.ascontiguousarray(other).view(bits)
    return bool(np.all(equal | (np.isnan(one) & np.isnan(other))))


def same_outside(arena: Arena, memory: np.ndarray, written: Iterable[Any]) -> bool:
    """Whether the arena still equals `memory` outside the elements of the arrays in `written`."""
    now = arena.memory.copy()
    inside = [
        array
        for array in written
        if isinstance(array, np.ndarray)
        and array.flags.writeable
        and np.may_share_memory(array, arena.memory)
    ]
    blanked = []
    for side in (now, memory):
        arena.memory[...] = side
        for array in inside:
            array[...] = np.zeros((), array.dtype)
        blanked.append(arena.memory.copy())
    arena.memory[...] = now
    return bool((blanked[0] == blanked[1]).all())

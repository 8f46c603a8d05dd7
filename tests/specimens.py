"""Arrays of every kind that a user may pass, made from the same numbers.

Each table maps a name to ``make(dtype, folder)``. An array that can be a view is one into the
middle of a larger buffer, so that `memory` shows a stray write.
"""

from __future__ import annotations

import array
import functools
import gc
import mmap
import tempfile
from multiprocessing import shared_memory
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from numpy.typing import NDArray

from thalweg import Optimizer

try:
    import ml_dtypes
except ModuleNotFoundError:  # the tests on the oldest NumPy
    ml_dtypes = None

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Specimens = dict[str, Callable[[Any, Path], Any]]

Array = NDArray[Any]


POOL = np.random.default_rng(0).uniform(0.5, 2.0, 16384)
"""Positive numbers, so that they are valid second moments too."""


def numbers(shape: Any, dtype: Any, seed: int = 0) -> Array:
    start = 64 * seed
    return POOL[start : start + int(np.prod(shape))].reshape(shape).astype(dtype)


def arena(dtype: Any) -> Array:
    return numbers(64, dtype)


def grid(dtype: Any) -> Array:
    return arena(dtype).reshape(8, 8)


def memory(value: Any) -> Array:
    """The bytes of the whole buffer behind an array, as a live view."""
    owner = value
    while getattr(owner, "base", None) is not None:
        owner = owner.base
    if isinstance(owner, np.ndarray):
        return np.asarray(owner).ravel("K").view(np.uint8)
    return np.frombuffer(owner, np.uint8)


def with_elements(before: Array, value: Array, elements: Array) -> Array:
    """Expected `memory(value)` after a write of `elements` to `value`, if it was `before`."""
    after = before.copy()
    if value.size:
        offset = address(value) - address(memory(value))
        np.ndarray(value.shape, value.dtype, after, offset, value.strides)[...] = elements
    return after


def address(value: Array) -> int:
    return value.__array_interface__["data"][0]


def picture(*values: Any) -> list[Any]:
    """Values in a comparable form: arrays as bits in logical order, optimizers as their state."""
    seen: list[Any] = []
    for value in values:
        if isinstance(value, Optimizer):
            leaves = [array for leaf in value.state.values() for array in leaf.values()]
            seen += [value.step_count, list(value.state), repr(value.groups)]
            seen += picture(*value.params.values(), *leaves)
        elif isinstance(value, np.ndarray | np.generic):
            plain = np.asarray(value)
            seen.append((plain.dtype.str, plain.shape, plain.tobytes()))
        elif isinstance(value, list):
            seen += picture(*value)
        else:
            seen.append(repr(value))
    return seen


class Subclass(np.ndarray):
    pass


def refuse(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("Python code of the subclass ran")


class Hostile(np.ndarray):
    """Raises whenever NumPy calls its methods instead of reading its memory."""

    __eq__ = __ne__ = __bool__ = __len__ = __iter__ = __getitem__ = __setitem__ = refuse
    __array_ufunc__ = __add__ = __mul__ = __copy__ = __deepcopy__ = __hash__ = refuse

    def __array_finalize__(self, obj: Any) -> None:
        if isinstance(obj, Hostile):
            refuse()


class TakesFunctions(np.ndarray):
    __array_function__ = refuse


def record(dtype: Any, *, align: bool) -> Array:
    fields = np.zeros(6, np.dtype([("tag", "u1"), ("x", dtype)], align=align))
    fields.view(np.uint8)[:] = 0xA5
    fields["x"] = numbers(6, dtype)
    return fields


def complex_numbers(dtype: Any) -> Array:
    return arena(dtype).view(np.result_type(dtype, np.complex64))


def filled(buffer: Any, dtype: Any, offset: int = 0) -> Array:
    """A view of shape (3, 4) into the middle of a buffer."""
    whole = np.frombuffer(buffer, np.uint8)
    whole[:] = 0xA5
    view = whole[16 + offset :][: 12 * np.dtype(dtype).itemsize].view(dtype).reshape(3, 4)
    view[...] = numbers((3, 4), dtype)
    return view


def mapped(dtype: Any, folder: Path, mode: Any) -> Array:
    """A memory map that starts neither at the start of its file nor of a page."""
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        arena(dtype).tofile(file)
        file.flush()
        return np.memmap(file.name, dtype, mode, offset=16, shape=(5, 8))[1:, ::3]


def orphan(dtype: Any) -> Array:
    base = grid(dtype)
    view = base[1:5, ::2]
    del base
    gc.collect(0)
    return view


@functools.cache
def segment() -> shared_memory.SharedMemory:
    """The segment of the process: one, since it cannot be closed while arrays use it."""
    made = shared_memory.SharedMemory(create=True, size=320)
    made.unlink()
    return made


def read_only(view: Array) -> Array:
    view.setflags(write=False)
    return view


def labelled(dtype: Any) -> Array:
    return numbers((3, 4), np.dtype(dtype, metadata={"unit": "m"}))


WRITABLE: Specimens = {
    "C contiguous": lambda d, _: arena(d)[2:17].reshape(3, 5),
    "C contiguous owner": lambda d, _: numbers((3, 5), d),
    "transposed": lambda d, _: grid(d).T,
    "Fortran": lambda d, _: np.asfortranarray(grid(d)),
    "sliced": lambda d, _: arena(d)[3:40:2],
    "column": lambda d, _: grid(d)[:, 3],
    "reversed": lambda d, _: arena(d)[50:10:-1],
    "reversed and sliced": lambda d, _: arena(d)[50:10:-3],
    "2-D of mixed strides": lambda d, _: grid(d)[::-2, 1::3],
    "3-D of mixed strides": lambda d, _: arena(d).reshape(4, 4, 4)[::-1, 1:3, ::2],
    "3-D of permuted axes": lambda d, _: arena(d).reshape(4, 4, 4)[:3, :, ::-1].transpose(2, 0, 1),
    "interleaved axes": lambda d, _: as_strided(
        arena(d)[7:], (2, 3), np.multiply((1, 2), np.dtype(d).itemsize)
    ),
    "stride 0 on an axis of length 1": lambda d, _: as_strided(
        arena(d)[5:], (1, 4, 1), (0, np.dtype(d).itemsize, 3)
    ),
    "0-d": lambda d, _: arena(d)[7, ...],
    "empty": lambda d, _: np.zeros((0, 3), d),
    "empty view": lambda d, _: grid(d)[:, 3:3],
    "empty with stride 0": lambda d, _: as_strided(arena(d)[9:], (0, 3), (0, 0)),
    "one element": lambda d, _: arena(d)[5:6],
    "one element, three axes": lambda d, _: arena(d)[5:6].reshape(1, 1, 1),
    "field of an aligned record": lambda d, _: record(d, align=True)["x"],
    "field of an aligned recarray": lambda d, _: record(d, align=True).view(np.recarray).x,
    "real part": lambda d, _: complex_numbers(d).real,
    "imaginary part": lambda d, _: complex_numbers(d).imag[::-3],
    "memmap r+": lambda d, folder: mapped(d, folder, "r+"),
    "memmap c": lambda d, folder: mapped(d, folder, "c"),
    "matrix": lambda d, _: grid(d)[1:5:2].view(np.matrix),
    "subclass": lambda d, _: grid(d)[1:, ::2].view(Subclass),
    "hostile subclass": lambda d, _: grid(d)[1:, ::2].view(Hostile),
    "subclass that takes over functions": lambda d, _: grid(d)[1:, ::2].view(TakesFunctions),
    "dtype with metadata": lambda d, _: labelled(d),
    "view without other owners": lambda d, _: orphan(d),
    "on a bytearray": lambda d, _: filled(bytearray(320), d),
    "on a map without a file": lambda d, _: filled(mmap.mmap(-1, 320), d),
    "on shared memory": lambda d, _: filled(segment().buf, d),
}

READ_ONLY: Specimens = {
    "read-only": lambda d, _: read_only(grid(d)[1:, ::2]),
    "read-only, 0-d": lambda d, _: read_only(arena(d)[3, ...]),
    "read-only, empty": lambda d, _: read_only(grid(d)[3:3]),
    "read-only and misaligned": lambda d, _: read_only(filled(bytearray(320), d, 1)),
    "broadcast": lambda d, _: np.broadcast_to(arena(d)[2:5], (4, 3)),
    "on bytes": lambda d, _: np.frombuffer(arena(d).tobytes(), d)[3:9],
}

READ_ONLY_MAPS: Specimens = {
    "memmap r": lambda d, folder: mapped(d, folder, "r"),
}

SELF_OVERLAPPING: Specimens = {
    "stride 0": lambda d, _: as_strided(arena(d)[3:], (5,), (0,)),
    "stride 0 on one axis": lambda d, _: as_strided(
        arena(d)[3:], (2, 5), (0, np.dtype(d).itemsize)
    ),
    "stride 0 beside a wide one": lambda d, _: as_strided(
        arena(d)[3:], (2, 2), (0, 10 * np.dtype(d).itemsize)
    ),
    "sliding windows": lambda d, _: sliding_window_view(arena(d), 4, writeable=True),
    "windows that meet in one element": lambda d, _: as_strided(
        arena(d), (3, 4), np.multiply((3, 1), np.dtype(d).itemsize)
    ),
    "windows backwards": lambda d, _: as_strided(
        arena(d)[40:], (3, 4), np.multiply((2, -1), np.dtype(d).itemsize)
    ),
}

MISALIGNED: Specimens = {
    "misaligned": lambda d, _: filled(bytearray(320), d, 1),
    "misaligned, 0-d": lambda d, _: filled(bytearray(320), d, 3)[1, 2, ...],
    "misaligned and reversed": lambda d, _: filled(bytearray(320), d, 2)[::-1, ::2],
    "field of a packed record": lambda d, _: record(d, align=False)["x"],
    "field of a packed recarray": lambda d, _: record(d, align=False).view(np.recarray).x[::-2],
}

OTHER_TYPES: Specimens = {
    "big-endian": lambda d, _: numbers(3, np.dtype(d).newbyteorder()),
    "long double": lambda _, __: numbers(3, np.longdouble),
    "integers": lambda _, __: np.arange(3),
    "signed bytes": lambda _, __: np.arange(3, dtype=np.int8),
    "booleans": lambda _, __: np.ones(3, bool),
    "dates": lambda _, __: np.arange(3).astype("M8[s]"),
    "durations": lambda _, __: np.arange(3).astype("m8[s]"),
    "strings": lambda _, __: np.array(["1.0", "2.0", "3.0"]),
    "byte strings": lambda _, __: np.array([b"1.0", b"2.0", b"3.0"]),
    "0-d integer": lambda _, __: np.array(1),
    "empty integers": lambda _, __: np.zeros((0, 3), int),
}

HALF: Specimens = {
    "float16": lambda _, __: numbers(3, np.float16),
    "float16, reversed": lambda _, __: numbers(6, np.float16)[::-2],
    "float16, empty": lambda _, __: np.zeros((0, 3), np.float16),
}
BFLOAT16: Specimens = {}
if ml_dtypes is not None:
    BFLOAT16["bfloat16"] = lambda _, __: numbers(3, ml_dtypes.bfloat16)
    BFLOAT16["bfloat16, reversed"] = lambda _, __: numbers(6, ml_dtypes.bfloat16)[::-2]
    OTHER_TYPES["bfloat16, big-endian"] = lambda _, __: numbers(
        3, np.dtype(ml_dtypes.bfloat16)
    ).view(np.dtype(ml_dtypes.bfloat16).newbyteorder())
    BFLOAT16["bfloat16, 0-d"] = lambda _, __: numbers(3, ml_dtypes.bfloat16)[1, ...]

HALF_MISALIGNED: Specimens = {
    "float16, misaligned": lambda _, __: filled(bytearray(320), np.float16, 1),
}

COMPLEX: Specimens = {
    "complex": lambda _, __: numbers(3, complex),
    "complex64, reversed": lambda _, __: numbers(3, np.complex64)[::-1],
}

OBJECTS: Specimens = {
    "objects": lambda _, __: np.array([1.0, 2.0, 3.0], object),
}

RAW: Specimens = {
    "raw bytes": lambda d, _: numbers(3, d).view(f"V{np.dtype(d).itemsize}"),
    "two raw bytes": lambda _, __: numbers(3, np.float16).view("V2"),
}

RECORDS: Specimens = {
    "records": lambda d, _: record(d, align=True),
    "record array": lambda d, _: record(d, align=False).view(np.recarray),
}

MASKED: Specimens = {
    "masked": lambda d, _: np.ma.MaskedArray(numbers(3, d), [True, False, False]),
    "masked, nothing hidden": lambda d, _: np.ma.MaskedArray(numbers(3, d)),
}

SCALARS: Specimens = {
    "float32 scalar": lambda _, __: np.float32(0.7),
    "float64 scalar": lambda _, __: np.float64(0.7),
}

HALF_SCALARS: Specimens = {
    "float16 scalar": lambda _, __: np.float16(1),
}

OTHER_SCALARS: Specimens = {
    "integer scalar": lambda _, __: np.int64(1),
    "boolean scalar": lambda _, __: np.bool_(True),
    "string scalar": lambda _, __: np.str_("1.0"),
}


class HasArray:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return numbers(3, np.float32).astype(dtype or np.float32)


class HasInterface:
    def __init__(self) -> None:
        self.held = numbers(3, np.float32)
        self.__array_interface__ = self.held.__array_interface__


class HasDLPack:
    def __init__(self) -> None:
        self.held = numbers(3, np.float32)

    def __dlpack__(self, **how: Any) -> Any:
        return self.held.__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.held.__dlpack_device__()


class HasBuffer:
    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(numbers(3, np.float32))


NO_ARRAYS: Specimens = {
    "float": lambda _, __: 1.0,
    "int": lambda _, __: 1,
    "bool": lambda _, __: True,
    "complex number": lambda _, __: 1j,
    "str": lambda _, __: "1.0",
    "bytes": lambda _, __: b"\0" * 12,
    "bytearray": lambda _, __: bytearray(12),
    "memoryview": lambda d, _: memoryview(numbers(3, d)),
    "array.array": lambda _, __: array.array("f", [1.0, 2.0, 3.0]),
    "set": lambda _, __: {1.0, 2.0},
    "range": lambda _, __: range(3),
    "generator": lambda d, _: (numbers(3, d) for _ in range(2)),
    "iterator": lambda d, _: iter([numbers(3, d)]),
    "array class": lambda _, __: np.ndarray,
    "dtype": lambda d, _: np.dtype(d),
    "__array_interface__": lambda _, __: HasInterface(),
    "__dlpack__": lambda _, __: HasDLPack(),
    "__buffer__": lambda _, __: HasBuffer(),
}
FOREIGN: Specimens = {"__array__": lambda _, __: HasArray()}

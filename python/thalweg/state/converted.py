"""Conversion of saved state to another format: decoded exactly, encoded once, to nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg import _core
from thalweg.compact.decoding import (
    BASE,
    BITS,
    CODES,
    HISTORY,
    LOW,
    ROW_STEPS,
    decoded,
    joined,
)
from thalweg.compact.encodings import (
    encode_bfloat16,
    encode_e5m3,
    split_bfloat16,
    split_float16,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from thalweg.mapped.arrays import Kind

__all__ = ["converted", "converted_param", "other_format"]

WHOLE = np.dtype(np.float32)


def _is_readable(array: Any) -> bool:
    plain = isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray)
    return plain or isinstance(array, _core.Stored)


def other_format(leaf: Mapping[str, Any], expected: Mapping[str, Kind]) -> str | None:
    """The difference, if saved arrays differ from the `expected` ones in their format alone."""
    arrays = {key: array for key, array in leaf.items() if key != "step"}
    if not all(map(_is_readable, arrays.values())):
        return None
    saved = {key: (array.dtype, array.shape) for key, array in arrays.items()}
    theirs, ours = _numbers(saved), _numbers(expected)
    dtypes = {dtype for dtype, _ in [*theirs.values(), *ours.values()]}
    alike = {k: shape for k, (_, shape) in theirs.items()} == {k: s for k, (_, s) in ours.items()}
    there, here = _format(theirs), _format(ours)
    if there == here or not alike or not dtypes <= {BITS, CODES, WHOLE}:
        return None
    return f"saved {there!r}, here {here!r}; pass convert=True to convert it"


def converted_param(
    saved: Any, low: Any, dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """A saved parameter, with what it lacks, as one of this dtype and what that lacks."""
    param = saved if isinstance(saved, np.ndarray) else saved.read()
    low = low if low is None or isinstance(low, np.ndarray) else low.read()
    number = joined(param, low)
    if number.dtype != WHOLE or dtype == WHOLE:
        return number, None
    if dtype == np.float16:
        return split_float16(number)
    return split_bfloat16(number)


def _numbers(kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays that hold moments, without the exponents of their blocks."""
    beside = (LOW, HISTORY, ROW_STEPS)
    return {k: kind for k, kind in kinds.items() if k not in beside and not str(k).endswith(BASE)}


def _format(kinds: Mapping[str, Any]) -> str:
    dtypes = {dtype for dtype, _ in kinds.values()}
    return "compact" if CODES in dtypes else "bfloat16" if BITS in dtypes else "full"


def converted(leaf: Mapping[str, Any], expected: Mapping[str, Kind]) -> dict[str, Any]:
    """The saved step and arrays of a parameter, with the `expected` dtypes where that is possible.

    Arrays that cannot are left as they are, so that a comparison finds them.
    """
    saved = {key: array for key, array in leaf.items() if key != "step"}
    if not all(map(_is_readable, saved.values())):
        return dict(leaf)
    if {key: array.dtype for key, array in saved.items()} == {
        k: d for k, (d, _) in expected.items()
    }:
        return dict(leaf)
    arrays = {k: a if isinstance(a, np.ndarray) else a.read() for k, a in saved.items()}
    numbers = decoded(arrays)
    made: dict[str, Any] = {}
    for key, array in numbers.items():
        dtype, _ = expected.get(key, (array.dtype, array.shape))
        if array.dtype != WHOLE or dtype == array.dtype:
            made[key] = array
        elif dtype == BITS:
            made[key] = encode_bfloat16(array)
        elif dtype == CODES:
            made[key], made[key + BASE] = encode_e5m3(array)
        else:
            made[key] = array
    if LOW in expected:
        dtype, shape = expected[LOW]
        made[LOW] = arrays[LOW] if LOW in arrays else np.zeros(shape, dtype)
    return {**made, "step": leaf.get("step")}

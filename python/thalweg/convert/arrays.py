"""Arrays and counts of other libraries, converted to NumPy arrays and Python numbers.

A value without an exact conversion stays unchanged. The comparison of state dicts then refuses it,
together with all other differences.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.compact.decoding import is_bfloat16

if TYPE_CHECKING:
    from thalweg.state.held import Held

__all__ = ["fitted", "number", "number_dtype", "whole"]


def number_dtype(held: Held, name: str) -> Any:
    """The dtype of a parameter's moments as numbers; None if it has none."""
    dtype = getattr(held.params.get(name), "dtype", None)
    if not isinstance(dtype, np.dtype):
        return None
    narrow = dtype == np.float16 or is_bfloat16(dtype) or name in held.bits
    return np.dtype(np.float32) if narrow else dtype


def fitted(value: Any, dtype: Any) -> Any:
    """`value` as an array of `dtype` if that changes no number in it, otherwise as it is."""
    array = _array(value)
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        return array
    if dtype is None or array.dtype == dtype or not _is_real(array.dtype):
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(dtype)
        exact = np.array_equal(cast.astype(array.dtype), array, equal_nan=True)
    return cast if exact else array


def number(value: Any) -> Any:
    """The element of an array or tensor of one element; of others, a value that ``==`` compares."""
    array = _array(value)
    if isinstance(array, np.ndarray | np.generic) and not isinstance(array, np.ma.MaskedArray):
        return array.item() if array.size == 1 else array.tolist()
    return repr(value) if hasattr(value, "shape") else value


def whole(value: Any) -> Any:
    """A count as an int if it is a whole number, otherwise as it is."""
    value = number(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _array(value: Any) -> Any:
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        # Not converted: sparse and quantized tensors, whose numbers are in no plain array, and meta
        # and distributed tensors, whose numbers are not in this process.
        elsewhere = value.is_meta or hasattr(value, "full_tensor")
        if value.layout != torch.strided or value.is_quantized or elsewhere:
            return value
        known = (torch.float16, torch.float32, torch.float64)
        if value.is_floating_point() and value.dtype not in known:
            value = value.detach().float()  # bfloat16: each number is exact in float32
        return value.numpy(force=True)  # from any device, with or without a graph
    if isinstance(value, np.ndarray | np.generic):
        return value
    if hasattr(value, "__array__") and hasattr(value, "dtype"):
        return np.asarray(value)
    return value


def _is_real(dtype: np.dtype[Any]) -> bool:
    # For the dtypes that JAX adds, NumPy's `kind` is not "f".
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))

"""State and parameters of an optimizer as float32 numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thalweg.compact.encodings import (
    decode_bfloat16,
    decode_e5m3,
    join_bfloat16,
    join_float16,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "BASE",
    "BITS",
    "CODES",
    "HISTORY",
    "LOW",
    "ROW_STEPS",
    "decode",
    "decoded",
    "is_bfloat16",
    "is_encoded",
    "joined",
    "narrow_name",
]

BITS, CODES = np.dtype(np.uint16), np.dtype(np.uint8)
"""Dtypes of state in the bits of bfloat16, and in codes of one byte."""
BASE = "_base"
"""Ending of the name of the exponents of an array of codes."""
LOW = "low"
"""Name of what a narrow parameter lacks."""
HISTORY = "history"
"""Name of what a rule keeps of a parameter's earlier steps."""
ROW_STEPS = "row_steps"
"""Name of the numbers of updates of a parameter's rows."""


class Owner(Protocol):
    """The part of an optimizer that `decode` uses."""

    @property
    def params(self) -> Mapping[str, NDArray[Any]]:
        """The parameters by name."""

    @property
    def state(self) -> Mapping[str, Mapping[str, Any]]:
        """The state by parameter."""


def decode(opt: Owner, name: str) -> dict[str, NDArray[Any]]:
    """The state of a parameter as float32 numbers, and the parameter itself.

    Parameters
    ----------
    opt : Optimizer
        The optimizer.
    name : str
        Name of a parameter that has state.

    Returns
    -------
    dict
        New arrays of the parameter's shape: ``param``, with every digit of a float16 or bfloat16
        parameter, and the moments, such as ``exp_avg``. Those of a float64 parameter are float64.

    Raises
    ------
    KeyError
        If `name` has no state.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> opt = thalweg.AdamW({"w": np.ones(2, np.float32)}, lr=0.1, state="bfloat16")
    >>> report = opt.step({"w": np.array([0.5, -0.5], np.float32)})
    >>> opt.state["w"]["exp_avg"].dtype, thalweg.compact.decode(opt, "w")["exp_avg"]
    (dtype('uint16'), array([ 0.05004883, -0.05004883], dtype=float32))
    """
    beside = ("step", HISTORY, ROW_STEPS)
    arrays = {key: array for key, array in opt.state[name].items() if key not in beside}
    return {"param": joined(opt.params[name], arrays.get(LOW)), **decoded(arrays)}


def is_encoded(array: Any) -> bool:
    """Whether a state array has another dtype than its numbers."""
    return isinstance(array, np.ndarray) and array.dtype in {BITS, CODES, np.dtype(np.int16)}


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is the bfloat16 of `ml_dtypes`, which need not be installed."""
    return dtype.name == "bfloat16" and dtype.itemsize == 2


def narrow_name(dtype: np.dtype[Any]) -> str:
    """The name of a narrow parameter's type, also if bfloat16 is kept as its bits."""
    return "float16" if dtype == np.float16 else "bfloat16"


def joined(param: NDArray[Any], low: NDArray[Any] | None) -> NDArray[Any]:
    """A copy of a parameter, as float32 if it is narrow; `low` is what it lacks, if known."""
    if param.dtype == np.float16:
        return param.astype(np.float32) if low is None else join_float16(param, low)
    if param.dtype == BITS or is_bfloat16(param.dtype):
        bits = np.asarray(param).view(BITS)
        return decode_bfloat16(bits) if low is None else join_bfloat16(bits, low)
    return np.array(param, subok=False)


def decoded(arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """State arrays as numbers; arrays that keep every digit are copied."""
    found = {}
    for key, array in arrays.items():
        if key == LOW or str(key).removesuffix(BASE) != key:
            continue
        if array.dtype == BITS:
            found[key] = decode_bfloat16(array)
        elif array.dtype == CODES and key + BASE in arrays:
            found[key] = decode_e5m3(array, arrays[key + BASE])
        else:
            found[key] = np.array(array)
    return found

"""The C library, called by ctypes; built on first use."""

from __future__ import annotations

import ctypes as c
import functools
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "capi"
HEADER = SOURCE / "thalweg.h"

RULES = (
    "AdamW",
    "Adam",
    "SGDW",
    "SGD",
    "NAdamW",
    "RAdamW",
    "AdaBelief",
    "Lion",
    "RMSprop",
    "Adagrad",
    "ScheduleFreeAdamW",
)
DONE, SKIPPED, INVALID, NONFINITE, FILE, MISMATCH = 0, 1, -1, -2, -3, -4
FLOAT32, FLOAT64, BFLOAT16, FLOAT16, E5M3 = 1, 2, 3, 4, 5
FLAGS = ("amsgrad", "nesterov", "centered", "cautious", "independent", "maximize")
NUMBERS = (
    "lr",
    "beta1",
    "beta2",
    "eps",
    "l2",
    "weight_decay",
    "momentum",
    "dampening",
    "alpha",
    "eps_root",
    "lr_decay",
    "initial_accumulator_value",
    "r",
    "weight_lr_power",
    "update_rms",
)


class Options(c.Structure):
    _fields_ = (
        ("size", c.c_size_t),
        ("rule", c.c_int32),
        *((name, c.c_uint8) for name in FLAGS),
        ("reserved", c.c_uint8 * 6),
        *((name, c.c_double) for name in NUMBERS),
    )


class Tensor(c.Structure):
    _fields_ = (
        ("size", c.c_size_t),
        ("name", c.c_char_p),
        ("p", c.c_void_p),
        ("g", c.c_void_p),
        ("state", c.c_void_p * 3),
        ("low", c.c_void_p),
        ("bases", c.c_void_p),
        ("history", c.c_void_p),
        ("shape", c.POINTER(c.c_size_t)),
        ("dims", c.c_size_t),
        ("len", c.c_size_t),
        ("rows", c.c_size_t),
        ("row_stride", c.c_ssize_t * 6),
        ("step", c.c_uint64),
        ("group", c.c_uint32),
        ("dtype", c.c_int32),
        ("grad_dtype", c.c_int32),
        ("state_dtype", c.c_int32 * 3),
    )


class Step(c.Structure):
    _fields_ = (
        ("size", c.c_size_t),
        ("scale", c.c_double),
        ("max_norm", c.c_double),
        ("max_value", c.c_double),
        ("nonfinite", c.c_int32),
        ("threads", c.c_int32),
        ("grad_norm", c.c_double),
        ("clip", c.c_double),
        ("refused", c.c_uint64),
        ("overflowed", c.c_uint64),
    )


@functools.cache
def built() -> Path:
    """The directory with the libraries. Other processes that build wait for each other."""
    for program in ("cargo", "cc"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    command = ["cargo", "build", "--quiet", "--release", "--package", "thalweg-capi"]
    subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603
    return ROOT / "target" / "release"


@functools.cache
def library() -> Any:
    """The shared library with the types of its functions."""
    found = c.CDLL(str(built() / "libthalweg_capi.so"))
    tensors, options, step = c.POINTER(Tensor), c.POINTER(Options), c.POINTER(Step)
    size, handle, text = c.c_size_t, c.c_void_p, c.c_char_p
    kept = c.POINTER(c.c_void_p)
    for name, arguments in {
        "set_num_threads": (c.c_int32,),
        "defaults": (options,),
        "update": (tensors, size, options, size, step),
        "norm": (tensors, size, options, size, step),
        "average_begin": (tensors, size, kept),
        "average_end": (tensors, size, kept),
        "optimizer_new": (c.POINTER(handle), options, c.c_int32),
        "optimizer_free": (handle,),
        "optimizer_group": (handle, text, options),
        "optimizer_set": (handle, size, options),
        "optimizer_step": (handle, tensors, size, step),
        "optimizer_lend": (handle, tensors, size),
        "optimizer_count": (handle, tensors, size),
        "optimizer_save": (handle, text, tensors, size),
        "optimizer_load": (handle, text, tensors, size),
    }.items():
        function = getattr(found, f"thalweg_{name}")
        function.argtypes, function.restype = arguments, c.c_int32
    found.thalweg_optimizer_free.restype = None
    found.thalweg_optimizer_steps.argtypes = (handle,)
    found.thalweg_optimizer_steps.restype = c.c_uint64
    found.thalweg_last_error.restype = found.thalweg_version.restype = text
    found.thalweg_abi.restype = c.c_uint32
    return found


def last_error() -> str:
    return str(library().thalweg_last_error().decode())


def options_of(rule: str, **changed: Any) -> Options:
    """The defaults of a rule, changed."""
    made = Options(size=c.sizeof(Options), rule=RULES.index(rule) + 1)
    assert library().thalweg_defaults(made) == DONE
    for name, value in changed.items():
        if name == "betas":
            made.beta1, made.beta2 = value
        else:
            assert hasattr(made, name), name
            setattr(made, name, value)
    return made


def step_of(**fields: float) -> Step:
    return Step(size=c.sizeof(Step), **fields)


def dtype_of(array: np.ndarray, *, state: bool = False) -> int:
    """The type of an array; one of bfloat16 bits is uint16."""
    name = array.dtype.name
    if state:
        return {"float32": 0, "float64": 0, "uint16": BFLOAT16, "uint8": E5M3}[name]
    known = {"float32": FLOAT32, "float64": FLOAT64, "bfloat16": BFLOAT16, "float16": FLOAT16}
    return (known | {"uint16": BFLOAT16})[name]


def address(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data


def rows_of(arrays: list[np.ndarray | None]) -> tuple[int, list[int]]:
    """Number of rows and their strides, if one of the arrays is not contiguous."""
    given = [array for array in arrays if array is not None]
    if all(array.flags.c_contiguous for array in given):
        return 0, [0] * 6
    assert all(array.ndim == 2 and array.strides[1] == array.itemsize for array in given)
    return given[0].shape[0], [0 if array is None else array.strides[0] for array in arrays]


def tensor_of(
    p: np.ndarray,
    g: np.ndarray | None = None,
    state: tuple[np.ndarray | None, ...] = (),
    *,
    name: str | None = None,
    low: np.ndarray | None = None,
    bases: np.ndarray | None = None,
    history: np.ndarray | None = None,
    step: int = 0,
    group: int = 0,
) -> Tensor:
    """A tensor of arrays, which the caller keeps alive."""
    states = [*state, None, None, None][:3]
    rows, strides = rows_of([p, g, *states, low])
    made = Tensor(
        size=c.sizeof(Tensor),
        name=None if name is None else name.encode(),
        p=address(p),
        g=address(g),
        low=address(low),
        bases=address(bases),
        history=address(history),
        len=p.size,
        rows=rows,
        step=step,
        group=group,
        dtype=dtype_of(p),
        grad_dtype=0 if g is None else dtype_of(g),
    )
    if name is not None:
        made.shape, made.dims = (c.c_size_t * p.ndim)(*p.shape), p.ndim
    made.row_stride[:] = strides
    for k, array in enumerate(states):
        made.state[k] = address(array)
        made.state_dtype[k] = 0 if array is None else dtype_of(array, state=True)
    return made


def call(name: str, tensors: list[Tensor], *arguments: Any) -> int:
    """Call a function that takes tensors first, or after its first argument."""
    array = (Tensor * len(tensors))(*tensors)
    function = getattr(library(), f"thalweg_{name}")
    return int(function(array, len(tensors), *arguments))

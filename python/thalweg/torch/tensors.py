"""NumPy arrays that share the memory of tensors, with errors for tensors that allow none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd.graph import increment_version

from thalweg.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

TRAINABLE = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
BITS = np.dtype(np.uint16)
"""Dtype of an array that has the bits of bfloat16 numbers; NumPy has no bfloat16."""


def bits_of(tensor: Any) -> NDArray[Any]:
    """An array of the bits of a bfloat16 tensor, whose memory it shares.

    Raises
    ------
    RuntimeError, TypeError
        As `Tensor.numpy`.
    """
    bits: NDArray[Any] = tensor.view(torch.int16).numpy().view(BITS)
    return bits


def tensor_of(array: NDArray[Any]) -> Any:
    """A tensor that shares the memory of an array; bfloat16 for an array of bits."""
    if array.dtype == BITS:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _counts_lists() -> bool:
    """Whether `increment_version` accepts several tensors; that of older versions does not."""
    try:
        increment_version([torch.empty(0)])
    except (TypeError, RuntimeError):
        return False
    return True


def _count_each(params: Iterable[Any]) -> None:
    for param in params:
        if not param.is_inference():  # inference tensors have no version counter
            increment_version(param)


count_write = increment_version if _counts_lists() else _count_each
"""Tells autograd that parameters have been written."""


def parameter_array(name: str, param: Any) -> NDArray[Any]:
    """An array that shares the memory of a parameter.

    Raises
    ------
    TypeError, ValueError
        For a tensor whose memory cannot be updated.
    """
    what = f"parameter {name!r}"
    _check_kind(what, param)
    if torch.nn.parameter.is_lazy(param):
        raise ValueError(
            f"{what} has no shape yet; run the model once before the optimizer is made"
        )
    if param.dtype not in TRAINABLE:
        raise TypeError(
            f"{what} must be torch.float32, torch.float64, torch.bfloat16 or torch.float16, got "
            f"{param.dtype}; convert the model (model.float()), or use torch.optim"
        )
    if param.dtype is torch.bfloat16:
        return bits_of(param.detach())
    array: NDArray[Any] = param.detach().numpy()
    return array


def gradient_array(name: str, gradient: Any, *, bits: bool = False) -> NDArray[Any] | Rows:
    """An array of a gradient for which `Tensor.numpy` raises, or its rows if it is sparse.

    With `bits`, the parameter is bfloat16, and the gradient may be too.

    Raises
    ------
    TypeError, ValueError
        For a gradient that is neither dense nor made of rows, not on the CPU, or of another dtype.
    """
    if gradient.layout is torch.sparse_coo and gradient.sparse_dim() == 1:
        given = gradient.detach()
        # These exist also for a gradient that is not coalesced, whose indices repeat.
        values = _array(name, given._values(), bits=bits)  # noqa: SLF001
        return Rows(given._indices()[0].numpy(), values)  # noqa: SLF001
    return _array(name, gradient, bits=bits)


def _array(name: str, gradient: Any, *, bits: bool) -> NDArray[Any]:
    what = f"the gradient of {name!r}"
    _check_kind(what, gradient)
    if bits and gradient.dtype is torch.bfloat16:
        return bits_of(gradient.detach())
    if gradient.dtype not in TRAINABLE or gradient.dtype is torch.bfloat16:
        raise TypeError(
            f"{what} must be torch.float32, torch.float64{', torch.bfloat16' if bits else ''} or "
            f"torch.float16, got {gradient.dtype}; assign p.grad = p.grad.float() before the step"
        )
    # `numpy` refuses a tensor that requires grad, and a negated view.
    array: NDArray[Any] = gradient.detach().resolve_neg().numpy()
    return array


def _check_kind(what: str, tensor: Any) -> None:
    """Raise an error unless the numbers of `tensor` are in dense memory of the CPU."""
    if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        raise TypeError(
            f"{what} must be a plain torch.Tensor or nn.Parameter, got {type(tensor).__name__}; "
            "use torch.optim"
        )
    if tensor.layout is not torch.strided:
        raise TypeError(
            f"{what} must be dense (torch.strided), got {tensor.layout}; convert it (to_dense)"
        )
    if tensor.device.type == "meta":
        raise ValueError(
            f"{what} must be on the CPU, got the meta device; allocate it "
            "(model.to_empty(device='cpu'))"
        )
    if tensor.device.type != "cpu":
        raise ValueError(
            f"{what} must be on the CPU, got {tensor.device}; move the model (model.cpu()) before "
            "the optimizer is made, or use torch.optim"
        )

"""Makers of other libraries' optimizers; each imports its library when it is called."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalweg.cli.bench.formulas import Arrays
    from thalweg.cli.bench.stepper import Stepper


def torch(params: Arrays, *, fused: bool) -> Stepper:
    """Return torch's AdamW."""
    return _of_tensors(params, foreach=False, fused=fused)


def thalweg_torch(params: Arrays) -> Stepper:
    """Return thalweg's AdamW of torch tensors."""
    import thalweg.torch  # noqa: PLC0415 - if torch is installed

    return _of_tensors(params, thalweg.torch.AdamW)


def deepspeed(params: Arrays) -> Stepper:
    """Return DeepSpeed's AdamW on the CPU."""
    # Without it, DeepSpeed prints which accelerator it has found.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from deepspeed.ops.adam import DeepSpeedCPUAdam  # noqa: PLC0415 - if it is installed

    return _of_tensors(params, partial(DeepSpeedCPUAdam, adamw_mode=True))


def torchao(params: Arrays) -> Stepper:
    """Return torchao's AdamW with moments in 8 bits."""
    from torchao.optim import AdamW8bit  # noqa: PLC0415 - if it is installed

    return _of_tensors(params, AdamW8bit)


def bitsandbytes(params: Arrays) -> Stepper:
    """Return bitsandbytes' AdamW with moments in 8 bits."""
    from bitsandbytes.optim import AdamW8bit  # noqa: PLC0415 - if it is installed

    return _of_tensors(params, AdamW8bit)


def _of_tensors(params: Arrays, *make: Callable[..., Any], **options: Any) -> Stepper:
    """Return an optimizer of torch tensors, by default torch's."""
    from thalweg.cli.bench.torch_adamw import TorchAdamW  # noqa: PLC0415 - if torch is installed

    return TorchAdamW(params, *make, **options)


def thinc(params: Arrays) -> Stepper:
    """Return thinc's Adam with decoupled decay."""
    from thalweg.cli.bench.thinc_adam import ThincAdam  # noqa: PLC0415 - if it is installed

    return ThincAdam(params)


def optax(params: Arrays) -> Stepper:
    """Return optax's AdamW, compiled."""
    from thalweg.cli.bench.optax_adamw import OptaxAdamW  # noqa: PLC0415 - if it is installed

    return OptaxAdamW(params)

"""The contenders: one table, with all that builds, checks and compares them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.cli.bench.formulas import (
    ADAMW,
    ADAMW_EPS_HAT,
    AMSGRAD,
    MAX_NORM,
    SGD,
    Arrays,
    Formula,
)
from thalweg.cli.bench.limit import Traffic
from thalweg.cli.bench.loops import NumpyLoop, Reference
from thalweg.cli.bench.native import Thalweg, adamw, amsgrad, sgd
from thalweg.cli.bench.work import numpy_product, torch_passes

if TYPE_CHECKING:
    from collections.abc import Callable

    import thalweg
    from thalweg.cli.bench.stepper import Stepper

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


@dataclass(frozen=True)
class Contender:
    """An optimizer of the comparison.

    Attributes
    ----------
    name, label : str
        For the command line and for readers.
    build : callable
        Makes a `Stepper` of parameters that it may keep and write to.
    rule, max_norm
        What it computes, for the check.
    dtype : dtype
        Of its parameters.
    ours : bool
        Whether it must equal the reference exactly, and joins every round.
    gradient_reads : int
        Reads of the gradients in a step; more than one is the price of looking at them first.
    scratch : int
        Arrays as large as the parameters that it needs beside parameters and state, about.
    package : str
        What must be installed.
    compiles : bool
        Whether its first step takes time that grows with the number of tensors.
    work : callable
        Makes the work that precedes its steps in a loop, by the library that it belongs to.
    """

    name: str
    label: str
    build: Callable[[Arrays], Stepper]
    rule: Formula = ADAMW
    max_norm: float | None = None
    dtype: np.dtype[Any] = FLOAT32
    ours: bool = False
    gradient_reads: int = 1
    scratch: int = 0
    package: str | None = None
    compiles: bool = False
    work: Callable[[], Callable[[], object]] = numpy_product

    @property
    def traffic(self) -> Traffic:
        """The reads and writes of any implementation of the rule."""
        return Traffic(self.rule.written, self.dtype)

    @property
    def moved_bytes(self) -> int:
        """Bytes a parameter that this one moves."""
        return self.traffic.moved_bytes + (self.gradient_reads - 1) * self.dtype.itemsize

    @property
    def memory(self) -> int:
        """Bytes a parameter that it occupies while it steps, without the gradient."""
        return (self.rule.written + self.scratch) * self.dtype.itemsize

    @property
    def is_installed(self) -> bool:
        """True if its package is found; nothing is imported for that."""
        return self.package is None or find_spec(self.package) is not None


def ours(
    name: str,
    label: str,
    make: Callable[..., thalweg.Optimizer],
    rule: Formula = ADAMW,
    *,
    nonfinite: str = "raise",
    max_norm: float | None = None,
    dtype: np.dtype[Any] = FLOAT32,
    **options: Any,
) -> Contender:
    """Return one of thalweg's optimizers as a contender; `options` are those of `Thalweg`."""
    looks = nonfinite != "ignore" or max_norm is not None
    if max_norm is not None:
        options["max_norm"] = max_norm
    return Contender(
        name,
        label,
        partial(Thalweg, partial(make, nonfinite=nonfinite), **options),
        rule,
        max_norm,
        dtype,
        ours=True,
        gradient_reads=2 if looks else 1,
    )


def _torch(params: Arrays, *, fused: bool) -> Stepper:
    from thalweg.cli.bench.torch_adamw import TorchAdamW  # noqa: PLC0415 - if it is installed

    return TorchAdamW(params, foreach=False, fused=fused)


def _thalweg_torch(params: Arrays) -> Stepper:
    import thalweg.torch  # noqa: PLC0415 - if torch is installed
    from thalweg.cli.bench.torch_adamw import TorchAdamW  # noqa: PLC0415

    return TorchAdamW(params, thalweg.torch.AdamW)


def _deepspeed(params: Arrays) -> Stepper:
    # Without it, DeepSpeed prints which accelerator it has found.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from deepspeed.ops.adam import DeepSpeedCPUAdam  # noqa: PLC0415 - if it is installed

    from thalweg.cli.bench.torch_adamw import TorchAdamW  # noqa: PLC0415

    return TorchAdamW(params, partial(DeepSpeedCPUAdam, adamw_mode=True))


def _thinc(params: Arrays) -> Stepper:
    from thalweg.cli.bench.thinc_adam import ThincAdam  # noqa: PLC0415 - if it is installed

    return ThincAdam(params)


def _optax(params: Arrays) -> Stepper:
    from thalweg.cli.bench.optax_adamw import OptaxAdamW  # noqa: PLC0415 - if it is installed

    return OptaxAdamW(params)


BASELINE = "thalweg"

_TABLE = (
    ours(BASELINE, "thalweg AdamW", adamw),
    ours("thalweg-ignore", "thalweg AdamW, ignore", adamw, nonfinite="ignore"),
    ours("thalweg-clip", "thalweg AdamW, clipped", adamw, max_norm=MAX_NORM),
    ours("thalweg-float64", "thalweg AdamW, float64", adamw, nonfinite="ignore", dtype=FLOAT64),
    ours("thalweg-amsgrad", "thalweg AMSGrad", amsgrad, AMSGRAD),
    ours("thalweg-sgd", "thalweg SGD, momentum", sgd, SGD),
    Contender(
        "thalweg-torch",
        "thalweg.torch AdamW",
        _thalweg_torch,
        ours=True,
        gradient_reads=2,
        package="torch",
        work=torch_passes,
    ),
    Contender(
        "torch-fused",
        "torch AdamW, fused",
        partial(_torch, fused=True),
        package="torch",
        work=torch_passes,
    ),
    Contender(
        "torch-loop",
        "torch AdamW, for-loop",
        partial(_torch, fused=False),
        scratch=2,
        package="torch",
        work=torch_passes,
    ),
    Contender("deepspeed", "DeepSpeed CPUAdam", _deepspeed, package="deepspeed", work=torch_passes),
    Contender("optax", "optax adamw, jit", _optax, scratch=1, package="optax", compiles=True),
    Contender("thinc", "thinc Adam", _thinc, ADAMW_EPS_HAT, scratch=2, package="thinc"),
    Contender("numpy", "NumPy loop", NumpyLoop, scratch=1),
    Contender("reference", "thalweg.reference", Reference, scratch=10),
)
CONTENDERS = {contender.name: contender for contender in _TABLE}

"""The contenders: one table, with all that builds, checks and compares them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.cli.bench import foreign
from thalweg.cli.bench.formulas import (
    ADAMW,
    ADAMW_BFLOAT16,
    ADAMW_COMPACT,
    ADAMW_EPS_HAT,
    AMSGRAD,
    MAX_NORM,
    SGD,
    Arrays,
    Formula,
)
from thalweg.cli.bench.limit import Traffic
from thalweg.cli.bench.loops import NumpyLoop, Reference
from thalweg.cli.bench.native import (
    Thalweg,
    adamw,
    adamw_bfloat16,
    adamw_compact,
    adamw_split,
    amsgrad,
    sgd,
)
from thalweg.cli.bench.work import numpy_product, torch_passes
from thalweg.compact.decoding import BITS

if TYPE_CHECKING:
    from collections.abc import Callable

    import thalweg
    from thalweg.cli.bench.stepper import Stepper

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
# Bytes of state for a parameter. Compact: 2, 1, and an exponent for each 64; split has an int16
# too. 8 bits: twice 1, and a float32 for each 256.
COMPACT, SPLIT, EIGHT_BIT = 3 + 1 / 64, 5 + 1 / 64, 2 + 2 * 4 / 256


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
        Of its parameters and gradients.
    state : float, optional
        Bytes of state for a parameter of a large tensor, if it is not of the parameters' type.
    rounded : bool
        Whether it rounds its state in its own way.
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
    most_shapes : int, optional
        Different shapes of tensors above which its first step takes too long.
    work : callable
        Makes the work that precedes its steps in a loop, by the library that it belongs to.
    """

    name: str
    label: str
    build: Callable[[Arrays], Stepper]
    rule: Formula = ADAMW
    max_norm: float | None = None
    dtype: np.dtype[Any] = FLOAT32
    state: float | None = None
    rounded: bool = False
    ours: bool = False
    gradient_reads: int = 1
    scratch: int = 0
    package: str | None = None
    compiles: bool = False
    most_shapes: int | None = None
    work: Callable[[], Callable[[], object]] = numpy_product

    @property
    def traffic(self) -> Traffic:
        """The reads and writes of any implementation of the rule, on a large tensor."""
        size = self.dtype.itemsize
        state = self.rule.states * size if self.state is None else self.state
        return Traffic(size + state, size)

    @property
    def memory(self) -> float:
        """Bytes a parameter that it occupies while it steps, without the gradient."""
        return self.traffic.written + self.scratch * self.dtype.itemsize

    def moved_bytes(self, traffic: Traffic) -> float:
        """Bytes a parameter that this one moves where that is the least."""
        return traffic.moved_bytes + (self.gradient_reads - 1) * traffic.read

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
    state: float | None = None,
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
        state,
        ours=True,
        gradient_reads=2 if looks else 1,
    )


def _both(
    kind: str, make: Callable[..., thalweg.Optimizer], rule: Formula, **options: Any
) -> tuple[Contender, Contender]:
    """Return AdamW in a smaller format with its default, and without the check of gradients."""
    name, label = f"thalweg-{kind}", f"thalweg AdamW, {kind}"
    return (
        ours(name, label, make, rule, **options),
        ours(f"{name}-ignore", f"{label}, ignore", make, rule, nonfinite="ignore", **options),
    )


BASELINE = "thalweg"

_TABLE = (
    ours(BASELINE, "thalweg AdamW", adamw),
    ours("thalweg-ignore", "thalweg AdamW, ignore", adamw, nonfinite="ignore"),
    ours("thalweg-clip", "thalweg AdamW, clipped", adamw, max_norm=MAX_NORM),
    ours("thalweg-float64", "thalweg AdamW, float64", adamw, nonfinite="ignore", dtype=FLOAT64),
    ours("thalweg-amsgrad", "thalweg AMSGrad", amsgrad, AMSGRAD),
    ours("thalweg-sgd", "thalweg SGD, momentum", sgd, SGD),
    *_both("bfloat16", adamw_bfloat16, ADAMW_BFLOAT16, state=4),
    *_both("compact", adamw_compact, ADAMW_COMPACT, state=COMPACT),
    *_both("split", adamw_split, ADAMW_COMPACT, dtype=BITS, state=SPLIT),
    Contender(
        "thalweg-torch",
        "thalweg.torch AdamW",
        foreign.thalweg_torch,
        ours=True,
        gradient_reads=2,
        package="torch",
        work=torch_passes,
    ),
    Contender(
        "torch-fused",
        "torch AdamW, fused",
        partial(foreign.torch, fused=True),
        package="torch",
        work=torch_passes,
    ),
    Contender(
        "torch-loop",
        "torch AdamW, for-loop",
        partial(foreign.torch, fused=False),
        scratch=2,
        package="torch",
        work=torch_passes,
    ),
    Contender(
        "deepspeed", "DeepSpeed CPUAdam", foreign.deepspeed, package="deepspeed", work=torch_passes
    ),
    Contender(
        "torchao",
        "torchao AdamW8bit",
        foreign.torchao,
        state=EIGHT_BIT,
        rounded=True,
        scratch=3,
        package="torchao",
        most_shapes=10,
        work=torch_passes,
    ),
    Contender(
        "bitsandbytes",
        "bitsandbytes AdamW8bit",
        foreign.bitsandbytes,
        state=EIGHT_BIT,
        rounded=True,
        scratch=3,
        package="bitsandbytes",
        work=torch_passes,
    ),
    Contender(
        "optax", "optax adamw, jit", foreign.optax, scratch=1, package="optax", compiles=True
    ),
    Contender("thinc", "thinc Adam", foreign.thinc, ADAMW_EPS_HAT, scratch=2, package="thinc"),
    Contender("numpy", "NumPy loop", NumpyLoop, scratch=1),
    Contender("reference", "thalweg.reference", Reference, scratch=10),
)
CONTENDERS = {contender.name: contender for contender in _TABLE}

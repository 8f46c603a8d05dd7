"""The updates that are measured, as `thalweg.reference` defines them, with one set of values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from thalweg import compact, reference

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = dict[str, Array]

LR = 1e-3
WEIGHT_DECAY = 1e-2
BETAS = (0.9, 0.999)
EPS = 1e-8
MOMENTUM = 0.9
# Parameters of fewer elements have float32 state.
COMPACT_MINIMUM = 4_096
# Low enough that every case's gradients are clipped.
MAX_NORM = 0.1


class Update(Protocol):
    """One update of one tensor: new parameter, then new state."""

    def __call__(
        self, p: Array, g: Array, *state: Array, step: int, scale: float
    ) -> tuple[Array, ...]:
        """Return new arrays; `step` counts from 1, `scale` multiplies the gradient."""


class Keep(Protocol):
    """What remains of new state once it is stored."""

    def __call__(self, *state: Array, step: int) -> tuple[Array, ...]:
        """Return new arrays; `step` counts from 1."""


def _whole(*state: Array, step: int) -> tuple[Array, ...]:  # noqa: ARG001 - as others of `Keep`
    return state


@dataclass(frozen=True)
class Formula:
    """An update, the number of its state arrays, and their storage."""

    update: Update
    states: int
    keep: Keep = _whole


def _adamw(
    p: Array, g: Array, *state: Array, step: int, scale: float, eps: float = EPS
) -> tuple[Array, ...]:
    exp_avg, exp_avg_sq, *maximum = state
    return reference.adam(
        p,
        g,
        exp_avg,
        exp_avg_sq,
        step,
        lr=LR,
        betas=BETAS,
        eps=eps,
        weight_decay=WEIGHT_DECAY,
        max_exp_avg_sq=maximum[0] if maximum else None,
        scale=scale,
    )


def _adamw_eps_hat(p: Array, g: Array, *state: Array, step: int, scale: float) -> tuple[Array, ...]:
    correction = math.sqrt(reference.one_minus_power(BETAS[1], step))
    return _adamw(p, g, *state, step=step, scale=scale, eps=EPS / correction)


def _sgd(p: Array, g: Array, *state: Array, step: int, scale: float) -> tuple[Array, ...]:
    momentum_buffer, momentum = (state[0], MOMENTUM) if state else (None, 0.0)
    return reference.sgd(p, g, momentum_buffer, step, lr=LR, momentum=momentum, scale=scale)


def _in_bfloat16(*state: Array, step: int) -> tuple[Array, ...]:
    return tuple(compact.decode_bfloat16(compact.encode_bfloat16(x, step)) for x in state)


def _compact(*state: Array, step: int) -> tuple[Array, ...]:
    exp_avg, exp_avg_sq = state
    if exp_avg.size < COMPACT_MINIMUM:
        return state
    codes = compact.encode_e5m3(exp_avg_sq, step)
    return *_in_bfloat16(exp_avg, step=step), compact.decode_e5m3(*codes)


ADAMW = Formula(_adamw, states=2)
ADAMW_BFLOAT16 = replace(ADAMW, keep=_in_bfloat16)
ADAMW_COMPACT = replace(ADAMW, keep=_compact)
# AdamW with eps added before the bias correction.
ADAMW_EPS_HAT = Formula(_adamw_eps_hat, states=2)
AMSGRAD = Formula(_adamw, states=3)
SGD = Formula(_sgd, states=1)
PLAIN_SGD = Formula(_sgd, states=0)

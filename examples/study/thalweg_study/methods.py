"""The optimizers that are compared: what each does with the decay, and how it is built.

All spare biases, as is the custom. ``eta`` is the multiplier of the schedule, 1 at its peak, and
the momentum, β1 of Adam, is what goes with it. The methods that end in ``independent`` are the
paper's: their decay does not know the learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import thalweg
from thalweg_study.schedules import momentum

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalweg.schedule import Schedule

SPARED = (thalweg.no_decay(),)


@dataclass(frozen=True)
class Method:
    """An optimizer with one kind of decay."""

    label: str
    decay: str
    """The meaning of the number called decay in formulas: the term that it is a factor of."""

    build: Callable[[Any, float, float, Schedule], thalweg.Optimizer]
    """From parameters, learning rate, decay and the multiplier of the schedule."""


def _betas(eta: Schedule) -> tuple[float | Schedule, float]:
    return momentum(eta), 0.999


def _sgd(params: Any, lr: float, decay: float, eta: Schedule) -> thalweg.Optimizer:
    return thalweg.SGD(params, lr * eta, momentum=momentum(eta), l2=decay, groups=SPARED)


def _sgdw(params: Any, lr: float, decay: float, eta: Schedule) -> thalweg.Optimizer:
    return thalweg.SGDW(params, lr * eta, momentum=momentum(eta), weight_decay=decay, groups=SPARED)


def _sgdw_independent(params: Any, lr: float, decay: float, eta: Schedule) -> thalweg.Optimizer:
    return thalweg.SGDW(
        params,
        lr * eta,
        momentum=momentum(eta),
        weight_decay=decay * eta,
        independent=True,
        groups=SPARED,
    )


def _adam(params: Any, lr: float, decay: float, eta: Schedule) -> thalweg.Optimizer:
    return thalweg.Adam(params, lr * eta, betas=_betas(eta), l2=decay, groups=SPARED)


def _amsgrad(params: Any, lr: float, decay: float, eta: Schedule) -> thalweg.Optimizer:
    return thalweg.AdamW(
        params, lr * eta, betas=_betas(eta), weight_decay=decay, amsgrad=True, groups=SPARED
    )


def _adamw(params: Any, lr: float, decay: float, eta: Schedule) -> thalweg.Optimizer:
    return thalweg.AdamW(params, lr * eta, betas=_betas(eta), weight_decay=decay, groups=SPARED)


def _adamw_independent(params: Any, lr: float, decay: float, eta: Schedule) -> thalweg.Optimizer:
    return thalweg.AdamW(
        params,
        lr * eta,
        betas=_betas(eta),
        weight_decay=decay * eta,
        independent=True,
        groups=SPARED,
    )


METHODS = {
    "sgd": Method("SGD + L2", "l2·p in the gradient", _sgd),
    "sgdw": Method("SGDW", "lr·decay·p", _sgdw),
    "sgdw-independent": Method("SGDW, independent", "decay·p", _sgdw_independent),
    "adam": Method("Adam + L2", "l2·p in the gradient", _adam),
    "adamw": Method("AdamW", "lr·decay·p", _adamw),
    "adamw-independent": Method("AdamW, independent", "decay·p", _adamw_independent),
    "amsgrad": Method("AMSGrad", "lr·decay·p", _amsgrad),
}

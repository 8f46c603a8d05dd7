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
    from typing import TypeAlias

    from thalweg.schedule import Schedule

    Build: TypeAlias = Callable[[Any, float, float, Schedule], thalweg.Optimizer]
    """From parameters, learning rate, decay and the multiplier of the schedule."""

SPARED = (thalweg.no_decay(),)


@dataclass(frozen=True)
class Method:
    """An optimizer with one kind of decay."""

    label: str
    decay: str
    """The meaning of the number called decay in formulas: the term that it is a factor of."""

    build: Build


def _betas(eta: Schedule, beta2: float = 0.999) -> tuple[float | Schedule, float]:
    return momentum(eta), beta2


def _decoupled(
    rule: Callable[..., thalweg.Optimizer], *, beta2: float = 0.999, **options: Any
) -> Build:
    """Return how a rule with betas and `weight_decay` is built."""

    def build(params: Any, lr: float, decay: float, eta: Schedule) -> thalweg.Optimizer:
        betas = _betas(eta, beta2)
        return rule(params, lr * eta, betas=betas, weight_decay=decay, groups=SPARED, **options)

    return build


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


def _adamw_independent(params: Any, lr: float, decay: float, eta: Schedule) -> thalweg.Optimizer:
    return thalweg.AdamW(
        params,
        lr * eta,
        betas=_betas(eta),
        weight_decay=decay * eta,
        independent=True,
        groups=SPARED,
    )


def _rmsprop(params: Any, lr: float, decay: float, eta: Schedule) -> thalweg.Optimizer:
    return thalweg.RMSprop(params, lr * eta, momentum=momentum(eta), l2=decay, groups=SPARED)


def _adagrad(params: Any, lr: float, decay: float, eta: Schedule) -> thalweg.Optimizer:
    return thalweg.Adagrad(params, lr * eta, l2=decay, groups=SPARED)


METHODS = {
    "sgd": Method("SGD + L2", "l2·p in the gradient", _sgd),
    "sgdw": Method("SGDW", "lr·decay·p", _sgdw),
    "sgdw-independent": Method("SGDW, independent", "decay·p", _sgdw_independent),
    "adam": Method("Adam + L2", "l2·p in the gradient", _adam),
    "adamw": Method("AdamW", "lr·decay·p", _decoupled(thalweg.AdamW)),
    "adamw-independent": Method("AdamW, independent", "decay·p", _adamw_independent),
    "amsgrad": Method("AMSGrad", "lr·decay·p", _decoupled(thalweg.AdamW, amsgrad=True)),
    "nadamw": Method("NAdamW", "lr·decay·p", _decoupled(thalweg.NAdamW)),
    "radamw": Method("RAdamW", "lr·decay·p", _decoupled(thalweg.RAdamW)),
    "adabelief": Method("AdaBelief", "lr·decay·p", _decoupled(thalweg.AdaBelief)),
    "lion": Method("Lion", "lr·decay·p", _decoupled(thalweg.Lion, beta2=0.99)),
    "rmsprop": Method("RMSprop + L2", "l2·p in the gradient", _rmsprop),
    "adagrad": Method("Adagrad + L2", "l2·p in the gradient", _adagrad),
    "schedule-free": Method(
        "Schedule-free AdamW", "lr·decay·p", _decoupled(thalweg.ScheduleFreeAdamW)
    ),
    "cautious": Method("Cautious AdamW", "lr·decay·p", _decoupled(thalweg.AdamW, cautious=True)),
    "stable": Method("StableAdamW", "lr·decay·p", _decoupled(thalweg.AdamW, update_rms=1.0)),
}

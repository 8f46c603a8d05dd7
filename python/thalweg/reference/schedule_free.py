"""The schedule-free rule, whose parameters have a history, and its averaged point."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from thalweg._core import power
from thalweg.reference.terms import FLOORS, descent, flush, gradient, mix, one_minus_power

if TYPE_CHECKING:
    from thalweg.reference.terms import Array

__all__ = ["averaged_point", "schedule_free_adamw"]


def schedule_free_adamw(
    p: Array,
    g: Array,
    z: Array,
    exp_avg_sq: Array,
    step: int,
    *,
    history: Array,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
    independent: bool = False,
    maximize: bool = False,
    scale: float = 1.0,
    max_value: float = math.inf,
) -> tuple[Array, ...]:
    """One schedule-free AdamW update. Other parameters are those of `adam`.

    Parameters
    ----------
    z, exp_avg_sq : ndarray
        State of the type and shape of `p`; `z` is not read at step 1.
    history : ndarray
        The largest learning rate, the sum of the weights and the last beta1, as three float64; not
        read at step 1.
    r, weight_lr_power : float
        Powers of the step and of the largest learning rate in the weight of a step.

    Returns
    -------
    tuple of ndarray
        New ``p, z, exp_avg_sq, history``.

    References
    ----------
    Defazio et al., *The Road Less Scheduled*, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> p, g, zero = np.ones(1), np.full(1, 0.5), np.zeros(1)
    >>> p, z, v, history = schedule_free_adamw(p, g, zero, zero, 1, history=np.zeros(3), lr=0.5)
    >>> p, z, history
    (array([0.50000001]), array([0.50000001]), array([0.5 , 0.25, 0.9 ]))
    """
    real, floors, beta1 = p.dtype.type, FLOORS[p.dtype], betas[0]
    largest, total, last = (float(x) for x in history) if step > 1 else (0.0, 0.0, beta1)
    largest = max(largest, lr)
    weight = power(float(step), r) * power(largest, weight_lr_power)
    total = total + weight
    share = weight / total if total else 0.0
    towards = share + (1.0 - share) * (1.0 - beta1 / last)

    g = gradient(p, g, scale=scale, max_value=max_value, maximize=maximize, l2=0.0)
    h = flush(g, floors.square)
    z = p if step == 1 else z
    v = mix(flush(exp_avg_sq, floors.average_sq), h * h, betas[1])
    correction = real(1.0 / math.sqrt(one_minus_power(betas[1], step)))
    change = real(lr) * g / (np.sqrt(v) * correction + real(eps))
    down = descent(p, change, weight_decay if independent else lr * weight_decay)
    base, rate = (z, towards - 1.0) if towards > 0.5 else (p, towards)
    part = real(1.0 - beta1 * (1.0 - share))
    p = base + (real(rate) * flush(z - p, floors.average) - part * down)
    return p, z - down, v, np.array([largest, total, beta1])


def averaged_point(p: Array, z: Array, beta1: float) -> Array:
    """The average `x` of the parameter ``p = (1 - beta1)·z + beta1·x``.

    Parameters
    ----------
    p, z : ndarray
        The parameter and its state, after a step.
    beta1 : float
        That of the last step, the last number of the history.

    Examples
    --------
    >>> import numpy as np
    >>> averaged_point(np.array([1.75]), np.array([1.0]), 0.75)
    array([2.])
    """
    beyond = p.dtype.type((1.0 - beta1) / beta1)
    return p - beyond * flush(z - p, FLOORS[p.dtype].average)

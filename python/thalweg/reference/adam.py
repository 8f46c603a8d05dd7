"""Adam, AdamW and AMSGrad, RAdamW, and their moments."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from thalweg.reference.measures import cautious_change, limited_rate
from thalweg.reference.terms import FLOORS, descend, flush, gradient, mix, one_minus_power

if TYPE_CHECKING:
    from thalweg.reference.terms import Array

__all__ = ["adam", "radamw"]


def adam(
    p: Array,
    g: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    step: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    l2: float = 0.0,
    weight_decay: float = 0.0,
    independent: bool = False,
    max_exp_avg_sq: Array | None = None,
    update_rms: float = 0.0,
    cautious: bool = False,
    maximize: bool = False,
    scale: float = 1.0,
    max_value: float = math.inf,
) -> tuple[Array, ...]:
    """One Adam, AdamW (`weight_decay`) or AMSGrad (`max_exp_avg_sq`) update.

    Parameters
    ----------
    p, exp_avg, exp_avg_sq, max_exp_avg_sq : ndarray
        Parameter and state, all of one type (float32 or float64) and shape.
    g : ndarray
        Gradient of any floating-point type; it is cast to the parameter's type first.
    step : int
        1-based number of this update.
    scale : float
        Positive factor on the gradient (``scale·clip`` of `thalweg.Optimizer.step`).
    update_rms : float
        Above 0: the learning rate is divided by ``max(1, rms / update_rms)``, where ``rms`` is the
        root mean square of ``g / max(√u/√(1 - beta2^t), eps)`` over the array.
    cautious : bool
        Apply only changes that have the sign of the gradient, divided by their part.
    max_value : float
        Each element of the scaled gradient is clipped to ``[-max_value, max_value]``.

    Returns
    -------
    tuple of ndarray
        New ``p, exp_avg, exp_avg_sq`` and, for AMSGrad, ``max_exp_avg_sq``.

    References
    ----------
    Kingma and Ba, *Adam*, algorithm 1; Loshchilov and Hutter, *Decoupled Weight Decay
    Regularization*, algorithm 2; Reddi, Kale and Kumar, *On the Convergence of Adam and Beyond*,
    algorithm 2; Wortsman et al., *Stable and low-precision training for large-scale vision-language
    models*, algorithm 2; Liang et al., *Cautious Optimizers: Improving Training with One Line of
    Code*, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> p, g, zero = np.ones(1), np.full(1, 0.5), np.zeros(1)
    >>> p, m, v = adam(p, g, zero, zero, 1, lr=0.1)
    >>> bool(np.isclose(p[0], 0.9)), bool(np.isclose(m[0], 0.05))
    (True, True)
    """
    real, floors = p.dtype.type, FLOORS[p.dtype]
    g = gradient(p, g, scale=scale, max_value=max_value, maximize=maximize, l2=l2)
    m, v = moments(g, exp_avg, exp_avg_sq, betas)
    u = v
    if max_exp_avg_sq is not None:
        u = np.maximum(flush(max_exp_avg_sq, floors.average_sq), v)

    first, second = (one_minus_power(beta, step) for beta in betas)
    root = np.sqrt(u) * real(1.0 / math.sqrt(second))
    lr = lr * limited_rate(g, root, eps, update_rms)
    change = real(lr / first) * m / (root + real(eps))
    if cautious:
        change = cautious_change(change, m, g)
    p = descend(p, change, weight_decay if independent else lr * weight_decay)
    return (p, m, v) if max_exp_avg_sq is None else (p, m, v, u)


def moments(
    g: Array, exp_avg: Array, exp_avg_sq: Array, betas: tuple[float, float]
) -> tuple[Array, Array]:
    """First and second moment with the gradient `g`, as the rules use it."""
    floors = FLOORS[g.dtype]
    h = flush(g, floors.square)
    m = mix(flush(exp_avg, floors.average), g, betas[0])
    return m, mix(flush(exp_avg_sq, floors.average_sq), h * h, betas[1])


def radamw(
    p: Array,
    g: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    step: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    independent: bool = False,
    update_rms: float = 0.0,
    cautious: bool = False,
    maximize: bool = False,
    scale: float = 1.0,
    max_value: float = math.inf,
) -> tuple[Array, ...]:
    """One RAdamW update. Parameters are those of `adam`.

    Returns
    -------
    tuple of ndarray
        New ``p, exp_avg, exp_avg_sq``.

    References
    ----------
    Liu et al., *On the Variance of the Adaptive Learning Rate and Beyond*, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> p, m, v = radamw(np.ones(1), np.full(1, 0.5), np.zeros(1), np.zeros(1), 1, lr=0.1)
    >>> bool(np.isclose(p[0], 0.95))
    True
    """
    real = p.dtype.type
    g = gradient(p, g, scale=scale, max_value=max_value, maximize=maximize, l2=0.0)
    m, v = moments(g, exp_avg, exp_avg_sq, betas)
    first, second = (one_minus_power(beta, step) for beta in betas)
    lr = lr * limited_rate(g, np.sqrt(v) * real(1.0 / math.sqrt(second)), eps, update_rms)
    limit = 2.0 / (1.0 - betas[1]) - 1.0
    length = limit - 2.0 * float(step) * (1.0 - second) / second
    if length > 5.0:
        factor = (length - 4.0) * (length - 2.0) * limit
        factor = math.sqrt(factor / ((limit - 4.0) * (limit - 2.0) * length))
        step_size = real(lr * factor * math.sqrt(second) / first)
        change = step_size * m / (np.sqrt(v) + real(eps))
    else:
        change = real(lr / first) * m / (np.sqrt(v) * real(0.0) + real(1.0))
    if cautious:
        change = cautious_change(change, m, g)
    return descend(p, change, weight_decay if independent else lr * weight_decay), m, v

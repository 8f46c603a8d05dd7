"""The rules."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from thalweg.reference.measures import cautious_change, limited_rate
from thalweg.reference.terms import FLOORS, descend, flush, gradient, mix, one_minus_power, scaled

if TYPE_CHECKING:
    from thalweg.reference.terms import Array

__all__ = [
    "accumulate",
    "adabelief",
    "adagrad",
    "adam",
    "average",
    "decay",
    "lion",
    "nadamw",
    "radamw",
    "rmsprop",
    "sgd",
]


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


def nadamw(
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
    """One NAdamW update. Parameters are those of `adam`.

    Returns
    -------
    tuple of ndarray
        New ``p, exp_avg, exp_avg_sq``.

    References
    ----------
    Dozat, *Incorporating Nesterov Momentum into Adam*, algorithm 2, with a constant beta.

    Examples
    --------
    >>> import numpy as np
    >>> p, m, v = nadamw(np.ones(1), np.full(1, 0.5), np.zeros(1), np.zeros(1), 1, lr=0.1)
    >>> float(p[0].round(4))
    0.8526
    """
    real, beta1 = p.dtype.type, betas[0]
    g = gradient(p, g, scale=scale, max_value=max_value, maximize=maximize, l2=0.0)
    m, v = moments(g, exp_avg, exp_avg_sq, betas)
    first = one_minus_power(beta1, step)
    following = first + (1.0 - first) * (1.0 - beta1)  # of step + 1
    root = np.sqrt(v) * real(1.0 / math.sqrt(one_minus_power(betas[1], step)))
    lr = lr * limited_rate(g, root, eps, update_rms)
    by_average, by_gradient = real(lr * beta1 / following), real(lr * (1.0 - beta1) / first)
    ahead = by_average * m + by_gradient * g
    change = ahead / (root + real(eps))
    if cautious:
        change = cautious_change(change, ahead, g)
    return descend(p, change, weight_decay if independent else lr * weight_decay), m, v


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


def adabelief(
    p: Array,
    g: Array,
    exp_avg: Array,
    exp_avg_var: Array,
    step: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-15,
    eps_root: float = 1e-16,
    weight_decay: float = 0.0,
    independent: bool = False,
    cautious: bool = False,
    maximize: bool = False,
    scale: float = 1.0,
    max_value: float = math.inf,
) -> tuple[Array, ...]:
    """One AdaBelief update. The other parameters are those of `adam`.

    Returns
    -------
    tuple of ndarray
        New ``p, exp_avg, exp_avg_var``.

    References
    ----------
    Zhuang et al., *AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients*,
    algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> p, m, s = adabelief(np.ones(1), np.full(1, 0.5), np.zeros(1), np.zeros(1), 1, lr=0.1)
    >>> float(p[0].round(4))
    0.8889
    """
    real, floors = p.dtype.type, FLOORS[p.dtype]
    g = gradient(p, g, scale=scale, max_value=max_value, maximize=maximize, l2=0.0)
    m = mix(flush(exp_avg, floors.average), g, betas[0])
    h = flush(g - m, floors.square)
    s = mix(flush(exp_avg_var, floors.average_sq), h * h, betas[1])
    s = s + flush(real(eps_root), floors.average_sq)
    first, second = (one_minus_power(beta, step) for beta in betas)
    step_size, correction = real(lr / first), real(1.0 / math.sqrt(second))
    change = step_size * m / (np.sqrt(s) * correction + real(eps))
    if cautious:
        change = cautious_change(change, m, g)
    return descend(p, change, weight_decay if independent else lr * weight_decay), m, s


def rmsprop(
    p: Array,
    g: Array,
    square_avg: Array,
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    l2: float = 0.0,
    momentum: float = 0.0,
    grad_avg: Array | None = None,
    momentum_buffer: Array | None = None,
    maximize: bool = False,
    scale: float = 1.0,
    max_value: float = math.inf,
) -> tuple[Array, ...]:
    """One RMSprop update, centered with a `grad_avg`, with momentum with a `momentum_buffer`.

    The other parameters are those of `adam`; the step does not matter.

    Returns
    -------
    tuple of ndarray
        New ``p, square_avg`` and, if they are given, ``grad_avg`` and ``momentum_buffer``.

    References
    ----------
    Tieleman and Hinton, *Neural Networks for Machine Learning*, lecture 6.5; Graves, *Generating
    Sequences With Recurrent Neural Networks*, equations 38 to 41.

    Examples
    --------
    >>> import numpy as np
    >>> p, v = rmsprop(np.ones(1), np.full(1, 0.5), np.zeros(1), lr=0.01)
    >>> float(p[0].round(4))
    0.9
    """
    real, floors = p.dtype.type, FLOORS[p.dtype]
    g = gradient(p, g, scale=scale, max_value=max_value, maximize=maximize, l2=l2)
    h = flush(g, floors.square)
    v = mix(flush(square_avg, floors.average_sq), h * h, alpha)
    new, variance = [v], v
    if grad_avg is not None:
        a = mix(flush(grad_avg, floors.average), g, alpha)
        new.append(a)
        a = flush(a, floors.square)
        variance = v - a * a
        variance = np.where(variance < 0.0, real(0.0), variance)
    b = g / (np.sqrt(variance) + real(eps))
    if momentum_buffer is not None:
        b = real(momentum) * flush(momentum_buffer, floors.average) + b
        new.append(b)
    return p - real(lr) * b, *new


def adagrad(
    p: Array,
    g: Array,
    sum: Array,  # noqa: A002 - the name of the state array
    step: int,
    *,
    lr: float,
    eps: float = 1e-10,
    l2: float = 0.0,
    lr_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    maximize: bool = False,
    scale: float = 1.0,
    max_value: float = math.inf,
) -> tuple[Array, ...]:
    """One Adagrad update. The other parameters are those of `adam`.

    At step 1, `initial_accumulator_value` takes the place of `sum`.

    Returns
    -------
    tuple of ndarray
        New ``p, sum``.

    References
    ----------
    Duchi, Hazan and Singer, *Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization*, figure 1.

    Examples
    --------
    >>> import numpy as np
    >>> p, s = adagrad(np.ones(1), np.full(1, 0.5), np.zeros(1), 1, lr=0.1)
    >>> float(p[0].round(4)), float(s[0])
    (0.9, 0.25)
    """
    real, floors = p.dtype.type, FLOORS[p.dtype]
    g = gradient(p, g, scale=scale, max_value=max_value, maximize=maximize, l2=l2)
    h = flush(g, floors.square)
    s = real(initial_accumulator_value) if step == 1 else sum
    s = flush(s, floors.average_sq) + h * h
    s = np.where(s > np.finfo(real).max, np.finfo(real).max, s)
    step_size = real(lr / (1.0 + float(step - 1) * lr_decay))
    return p - step_size * g / (np.sqrt(s) + real(eps)), s


def sgd(
    p: Array,
    g: Array,
    momentum_buffer: Array | None,
    step: int,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    l2: float = 0.0,
    weight_decay: float = 0.0,
    independent: bool = False,
    maximize: bool = False,
    scale: float = 1.0,
    max_value: float = math.inf,
) -> tuple[Array, ...]:
    """One SGD or SGDW (`weight_decay`) update, with or without momentum.

    Parameters are those of `adam`. Without a `momentum_buffer` the momentum is zero. With zero
    momentum, dampening does not apply, and a given buffer becomes the gradient.

    Returns
    -------
    tuple of ndarray
        New ``p`` and, if one is given, ``momentum_buffer``.

    Examples
    --------
    >>> import numpy as np
    >>> p, b = sgd(np.ones(1), np.full(1, 0.5), np.zeros(1), 1, lr=0.1, momentum=0.9)
    >>> float(p[0]), float(b[0])
    (0.95, 0.5)
    """
    real = p.dtype.type
    g = gradient(p, g, scale=scale, max_value=max_value, maximize=maximize, l2=l2)
    b, h = momentum_buffer, g
    if b is not None:
        if step == 1 or momentum == 0.0:
            b = g
        else:
            b = flush(b, FLOORS[p.dtype].average)
            b = real(momentum) * b + real(1.0 - dampening) * g
        h = g + real(momentum) * b if nesterov else b
    p = descend(p, real(lr) * h, weight_decay if independent else lr * weight_decay)
    return (p,) if b is None else (p, b)


def lion(
    p: Array,
    g: Array,
    exp_avg: Array,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    independent: bool = False,
    cautious: bool = False,
    maximize: bool = False,
    scale: float = 1.0,
    max_value: float = math.inf,
) -> tuple[Array, ...]:
    """One Lion update. Parameters are those of `adam`; the step does not matter.

    Returns
    -------
    tuple of ndarray
        New ``p, exp_avg``.

    References
    ----------
    Chen et al., *Symbolic Discovery of Optimization Algorithms*, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> p, m = lion(np.ones(2), np.array([0.5, -3.0]), np.zeros(2), lr=0.25)
    >>> p
    array([0.75, 1.25])
    """
    real = p.dtype.type
    beta1, beta2 = betas
    g = gradient(p, g, scale=scale, max_value=max_value, maximize=maximize, l2=0.0)
    m = flush(exp_avg, FLOORS[p.dtype].average)
    c = mix(m, g, beta1)
    up = real(lr)
    change = np.where(c > 0.0, up, np.where(c < 0.0, real(0.0) - up, c))
    if cautious:
        change = cautious_change(change, c, g)
    p = descend(p, change, weight_decay if independent else lr * weight_decay)
    return p, mix(m, g, beta2)


def decay(p: Array, rate: float) -> Array:
    """Weight decay alone: ``p - rate·p``.

    Examples
    --------
    >>> import numpy as np
    >>> decay(np.array([2.0, -4.0]), 0.25)
    array([ 1.5, -3. ])
    """
    return descend(p, np.zeros_like(p), rate)


def accumulate(total: Array, g: Array, weight: float, step: int) -> Array:
    """A sum of gradients after addition number `step`, counted from 1: ``total + weight·g``.

    The first addition overwrites `total`. `g` is cast to the type of `total` first.

    Examples
    --------
    >>> import numpy as np
    >>> accumulate(np.array([1.0]), np.array([2.0]), 3.0, 2)
    array([7.])
    """
    g = scaled(g, total, weight)
    return g if step == 1 else total + g


def average(a: Array, x: Array, step: int, decay: float, *, bias_correction: bool) -> Array:
    """A moving average `a` after update number `step`, counted from 1, with `x`.

    ``a + r·(x - a)`` with ``r = 1 - decay``, or ``(1 - decay)/(1 - decay^step)`` with bias
    correction: this equals ``e/(1 - decay^step)`` for ``e <- decay·e + (1-decay)·x`` from
    ``e = 0``. As in `mix`, the step starts from the operand with the larger weight.

    Examples
    --------
    >>> import numpy as np
    >>> a = average(np.array([9.0]), np.array([2.0]), 1, 0.5, bias_correction=True)
    >>> a, average(a, np.array([5.0]), 2, 0.5, bias_correction=True)
    (array([2.]), array([4.]))
    """
    rate = 1.0 - decay
    if bias_correction:
        rate = rate / one_minus_power(decay, step)
    real, floors = a.dtype.type, FLOORS[a.dtype]
    a, x = flush(a, floors.average), flush(x.astype(a.dtype), floors.grad)
    if rate > 0.5:
        return x + real(rate - 1.0) * (x - a)
    return a + real(rate) * (x - a)

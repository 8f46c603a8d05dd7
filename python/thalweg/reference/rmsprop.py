"""RMSprop."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from thalweg.reference.terms import FLOORS, flush, gradient, mix

if TYPE_CHECKING:
    from thalweg.reference.terms import Array

__all__ = ["rmsprop"]


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

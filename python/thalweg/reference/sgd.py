"""SGD and SGDW."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from thalweg.reference.terms import FLOORS, descend, flush, gradient

if TYPE_CHECKING:
    from thalweg.reference.terms import Array

__all__ = ["sgd"]


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

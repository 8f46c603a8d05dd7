"""Adagrad."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from thalweg.reference.terms import FLOORS, flush, gradient

if TYPE_CHECKING:
    from thalweg.reference.terms import Array

__all__ = ["adagrad"]


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

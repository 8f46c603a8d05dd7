"""Lion."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from thalweg.reference.measures import cautious_change
from thalweg.reference.terms import FLOORS, descend, flush, gradient, mix

if TYPE_CHECKING:
    from thalweg.reference.terms import Array

__all__ = ["lion"]


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

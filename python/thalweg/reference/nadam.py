"""NAdamW."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from thalweg.reference.adam import moments
from thalweg.reference.measures import cautious_change, limited_rate
from thalweg.reference.terms import descend, gradient, one_minus_power

if TYPE_CHECKING:
    from thalweg.reference.terms import Array

__all__ = ["nadamw"]


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

"""AdaBelief."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from thalweg.reference.measures import cautious_change
from thalweg.reference.terms import FLOORS, descend, flush, gradient, mix, one_minus_power

if TYPE_CHECKING:
    from thalweg.reference.terms import Array

__all__ = ["adabelief"]


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

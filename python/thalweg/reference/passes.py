"""What is not an update: decay alone, sums and averages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thalweg.reference.terms import FLOORS, descend, flush, one_minus_power, scaled

if TYPE_CHECKING:
    from thalweg.reference.terms import Array

__all__ = ["accumulate", "average", "decay"]


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

"""Adam with Nesterov's momentum and decoupled weight decay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg import _core
from thalweg.groups.rule import Rule
from thalweg.rules.arguments import default_weight_decay, limit
from thalweg.rules.decoupled import Decoupled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thalweg.numbers import Real
    from thalweg.rules.arguments import Arrays, NonFinite

__all__ = ["NAdamW", "nadamw"]


class NAdamW(Decoupled):
    """Adam with Nesterov's momentum and decoupled weight decay.

    The step looks ahead: it has the gradient and the first moment as they will be mixed in the next
    step. At step `t` of a parameter, with gradient ``g <- scale·clip·g``::

        m <- β1·m + (1-β1)·g
        v <- β2·v + (1-β2)·g²
        n  = β1/(1-β1^(t+1)) · m + (1-β1)/(1-β1^t) · g
        p <- p - ( d·p + lr·n / ( √v/√(1-β2^t) + eps ) )
        d  = lr·weight_decay, or weight_decay if independent

    `thalweg.reference.nadamw` is the exact definition.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, independent, update_rms, cautious
        As for `AdamW`.
    groups, maximize, nonfinite, state, rows, row_steps, bfloat16, state_dir
        As for `AdamW`.

    Notes
    -----
    This is optax's ``nadamw``, which AlgoPerf uses too. ``torch.optim.NAdam`` and the paper let β1
    grow with the step (`momentum_decay`): with torch's defaults, from 0.45 to 0.52 in 1,000 steps
    and to 0.81 in 10,000. The paper also multiplies the corrected `v` by β2; torch, optax and Keras
    do not.

    References
    ----------
    Dozat, *Incorporating Nesterov Momentum into Adam*, algorithm 2, with a constant β1.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> w = np.array([1.0, -2.0])
    >>> opt = thalweg.NAdamW(w, lr=0.1, weight_decay=0.0)
    >>> for _ in range(200):
    ...     report = opt.step(2 * w)  # the gradient of w·w
    >>> bool(np.abs(w).max() < 0.01)
    True
    """

    rule = Rule.named("NAdamW")


def nadamw(
    p: Arrays,
    g: Arrays,
    exp_avg: Arrays,
    exp_avg_sq: Arrays,
    step: int,
    *,
    lr: Real,
    betas: Sequence[Real] = (0.9, 0.999),
    eps: Real = 1e-8,
    weight_decay: Real | None = None,
    independent: bool = False,
    update_rms: Real | None = None,
    cautious: bool = False,
    exp_avg_sq_base: Arrays | None = None,
    low: Arrays | None = None,
    maximize: bool = False,
    scale: Real = 1.0,
    nonfinite: NonFinite = "raise",
    threads: int | None = None,
) -> bool:
    """Apply one NAdamW update in place.

    The formula is that of `thalweg.NAdamW`. Arguments, result and errors are those of `adamw`.

    Examples
    --------
    >>> import numpy as np
    >>> p, m, v = np.ones(3), np.zeros(3), np.zeros(3)
    >>> nadamw(p, np.full(3, 0.5), m, v, 1, lr=0.1, weight_decay=0.0)
    True
    >>> p.round(4)
    array([0.8526, 0.8526, 0.8526])
    """
    values = {
        "lr": lr,
        "betas": betas,
        "eps": eps,
        "weight_decay": default_weight_decay(weight_decay, independent),
        **limit(update_rms),
        "cautious": cautious,
        "independent": independent,
        "maximize": maximize,
    }
    return _core.apply(
        "NAdamW",
        p,
        g,
        (exp_avg, exp_avg_sq),
        step,
        values,
        scale=scale,
        nonfinite=nonfinite,
        threads=threads,
        bases=exp_avg_sq_base,
        low=low,
    )

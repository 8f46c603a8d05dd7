"""RAdam with decoupled weight decay."""

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

__all__ = ["RAdamW", "radamw"]


class RAdamW(Decoupled):
    """Rectified Adam, which begins without a warmup, with decoupled weight decay.

    The variance of the adaptive rate is large while `v` has seen few gradients. The step is
    shortened accordingly, and until the variance is finite, it has no adaptive rate. At step `t` of
    a parameter, with gradient ``g <- scale·clip·g``::

        m <- β1·m + (1-β1)·g
        v <- β2·v + (1-β2)·g²
        p <- p - ( d·p + lr/(1-β1^t) · m )                                    if n <= 5, else
        p <- p - ( d·p + r·lr/(1-β1^t) · m / ( (√v + eps)/√(1-β2^t) ) )
        d  = lr·weight_decay, or weight_decay if independent
        N  = 2/(1-β2) - 1
        n  = N - 2t·β2^t/(1-β2^t)
        r  = √( (n-4)(n-2)N / ((N-4)(N-2)n) )

    `n` is the number of gradients that `v` averages, as it grows to `N`; the paper calls it rho.
    With the default `betas` the first five steps have no adaptive rate. `thalweg.reference.radamw`
    is the exact definition.

    Parameters
    ----------
    params : tree of ndarray
        As for `AdamW`.
    lr : float or callable, default 1e-3
        Learning rate, at least 0.
    betas : tuple of two floats or callables, default (0.9, 0.999)
        Decay of the first and second moment, each in [0, 1). With a second one of 2/3 or less, `n`
        never exceeds 5.
    eps : float or callable, default 1e-8
        Added to the uncorrected root, as in torch; at least 1e-15 for float32 parameters, 1e-120
        for float64.
    weight_decay : float or callable, default 1e-2
        Decay, at least 0.
    independent, update_rms, cautious
        As for `AdamW`.
    groups, maximize, nonfinite, state, rows, row_steps, bfloat16, state_dir
        As for `AdamW`.

    Notes
    -----
    ``torch.optim.RAdam(decoupled_weight_decay=True)`` takes the same steps; its default of
    `weight_decay` is 0. optax's ``radam`` adds `eps` to the corrected root. With
    ``nonfinite="ignore"``, a `v` that is infinite makes the first steps NaN.

    References
    ----------
    Liu et al., *On the Variance of the Adaptive Learning Rate and Beyond*, algorithm 2.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> w = np.array([1.0, -2.0])
    >>> opt = thalweg.RAdamW(w, lr=0.1, weight_decay=0.0)
    >>> report = opt.step(2 * w)  # the first steps are proportional to the gradient
    >>> w
    array([ 0.8, -1.6])
    """

    rule = Rule.named("RAdamW")


def radamw(
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
    """Apply one RAdamW update in place.

    The formula is that of `thalweg.RAdamW`. Arguments, result and errors are those of `adamw`.

    Examples
    --------
    >>> import numpy as np
    >>> p, m, v = np.ones(3), np.zeros(3), np.zeros(3)
    >>> radamw(p, np.full(3, 0.5), m, v, 1, lr=0.1, weight_decay=0.0)
    True
    >>> p
    array([0.95, 0.95, 0.95])
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
        "RAdamW",
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

"""Adam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from thalweg import _core
from thalweg.groups.rule import Rule
from thalweg.optimizer import Optimizer
from thalweg.rules.arguments import options_of, refuse

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from thalweg.groups.matching import Match
    from thalweg.groups.specified import Groups
    from thalweg.numbers import Number, Real, RowsMeaning, StateFormat
    from thalweg.rules.arguments import Arrays, NonFinite

__all__ = ["Adam", "adam"]


class Adam(Optimizer):
    """Adam, with an L2 penalty in the gradient; AMSGrad with ``amsgrad=True``.

    At step `t` of a parameter, with gradient ``g <- scale·clip·g + l2·p``::

        m <- β1·m + (1-β1)·g
        v <- β2·v + (1-β2)·g²
        p <- p - lr/(1-β1^t) · m / ( √v/√(1-β2^t) + eps )

    AMSGrad uses the running maximum of `v` in place of `v`. `thalweg.reference.adam` is the exact
    definition.

    Parameters
    ----------
    params : tree of ndarray
        Writable float32, float64, float16 or bfloat16 (`ml_dtypes`) arrays, in mappings, lists,
        tuples; updated in place.
    lr : float or callable, default 1e-3
        Learning rate, at least 0.
    betas : tuple of two floats or callables, default (0.9, 0.999)
        Decay of the first and second moment, each in [0, 1).
    eps : float or callable, default 1e-8
        Added to the root; at least 1e-15 for float32 parameters, 1e-120 for float64.
    l2 : float or callable, default 0
        Penalty, at least 0: ``l2·p``, the gradient of ``l2·Σp²/2``, is added to the gradient, and
        Adam scales it by the history of the gradient like the rest. For decay that does not depend
        on that history see `AdamW`.
    amsgrad : bool, default False
        Keep the running maximum of the second moment.
    groups : sequence of mappings
        Parameter groups; see `AdamW`.
    maximize : bool, default False
        Ascend instead of descend.
    nonfinite : {"raise", "skip", "ignore"}
        Treatment of gradients that are NaN, infinite or too large; see `AdamW`.
    state : {"full", "bfloat16", "compact"}, default "full"
        Format of the moments; see `AdamW`.
    rows : {"lazy", "dense"}, optional
        Meaning of gradients that are `Rows`; see `AdamW`.
    row_steps : bool, default False
        Count the updates of each row; see `AdamW`.
    bfloat16 : str, sequence of str or callable, default ()
        Parameters that are bfloat16 numbers in arrays of uint16; see `AdamW`.
    state_dir : path, optional
        Keep parameters and state in memory-mapped files; see `AdamW`.

    Notes
    -----
    `eps` is outside the bias-corrected root (torch, optax), not the papers' ε̂ (Keras,
    scikit-learn, thinc): ``eps = ε̂/√(1-β2^t)``. AMSGrad takes the maximum of the raw `v`, as do
    torch and Keras. optax takes it of the corrected `v`, and the AMSGrad paper has no bias
    correction.

    References
    ----------
    Kingma and Ba, *Adam: A Method for Stochastic Optimization*, algorithm 1. Reddi, Kale and Kumar,
    *On the Convergence of Adam and Beyond*, algorithm 2.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> w = np.array([1.0, -2.0])
    >>> opt = thalweg.Adam(w, lr=0.1)
    >>> for _ in range(200):
    ...     report = opt.step(2 * w)  # the gradient of w·w
    >>> bool(np.abs(w).max() < 0.01), report.step
    (True, 200)
    """

    rule = Rule.named("Adam")

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-3,
        *,
        betas: Sequence[Number] = (0.9, 0.999),
        eps: Number = 1e-8,
        l2: Number = 0.0,
        amsgrad: bool = False,
        groups: Groups = (),
        maximize: bool = False,
        nonfinite: NonFinite = "raise",
        state: StateFormat = "full",
        rows: RowsMeaning | None = None,
        row_steps: bool = False,
        bfloat16: Match = (),
        state_dir: str | os.PathLike[str] | None = None,
        **unsupported: NoReturn,
    ) -> None:
        refuse(type(self), unsupported)
        values = {"lr": lr, "betas": betas, "eps": eps, "l2": l2}
        options = options_of(maximize, nonfinite, amsgrad=amsgrad)
        self._start(
            params,
            groups,
            values,
            options,
            state=state,
            rows=rows,
            row_steps=row_steps,
            bfloat16=bfloat16,
            state_dir=state_dir,
        )


def adam(
    p: Arrays,
    g: Arrays,
    exp_avg: Arrays,
    exp_avg_sq: Arrays,
    step: int,
    *,
    lr: Real,
    betas: Sequence[Real] = (0.9, 0.999),
    eps: Real = 1e-8,
    l2: Real = 0.0,
    max_exp_avg_sq: Arrays | None = None,
    exp_avg_sq_base: Arrays | None = None,
    low: Arrays | None = None,
    maximize: bool = False,
    scale: Real = 1.0,
    nonfinite: NonFinite = "raise",
    threads: int | None = None,
) -> bool:
    """Apply one Adam update in place; AMSGrad if `max_exp_avg_sq` is given.

    The formula is that of `thalweg.Adam`. Arguments, result and errors are those of `adamw`, with
    the penalty `l2` in place of `weight_decay` and `independent`.

    Examples
    --------
    >>> import numpy as np
    >>> p, m, v = np.ones(3), np.zeros(3), np.zeros(3)
    >>> adam(p, np.full(3, 0.5), m, v, 1, lr=0.1)
    True
    >>> p.round(6)
    array([0.9, 0.9, 0.9])
    """
    values = {"lr": lr, "betas": betas, "eps": eps, "l2": l2, "maximize": maximize}
    return _core.apply(
        "Adam",
        p,
        g,
        (exp_avg, exp_avg_sq, max_exp_avg_sq),
        step,
        values,
        scale=scale,
        nonfinite=nonfinite,
        threads=threads,
        bases=exp_avg_sq_base,
        low=low,
    )

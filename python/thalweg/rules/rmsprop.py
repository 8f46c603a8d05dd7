"""RMSprop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from thalweg import _core
from thalweg.groups.rule import Rule
from thalweg.optimizer import Optimizer
from thalweg.rules.arguments import refuse

if TYPE_CHECKING:
    import os

    from thalweg.groups.matching import Match
    from thalweg.groups.specified import Groups
    from thalweg.numbers import Number, Real, RowsMeaning, StateFormat
    from thalweg.rules.arguments import Arrays, NonFinite

__all__ = ["RMSprop", "rmsprop"]


class RMSprop(Optimizer):
    """RMSprop, plain or centered, with or without momentum; with an L2 penalty in the gradient.

    At each step of a parameter, with gradient ``g <- scale·clip·g + l2·p``::

        v <- alpha·v + (1-alpha)·g²
        a <- alpha·a + (1-alpha)·g   if centered, else 0
        h <- g / ( √max(v - a², 0) + eps )
        b <- momentum·b + h          with momentum, else b <- h
        p <- p - lr·b

    `thalweg.reference.rmsprop` is the exact definition.

    Parameters
    ----------
    params : tree of ndarray
        As for `AdamW`.
    lr : float or callable, default 1e-2
        Learning rate, at least 0.
    alpha : float or callable, default 0.99
        Decay of the averages, in [0, 1).
    eps : float or callable, default 1e-8
        Added to the root; at least 1e-15 for float32 parameters, 1e-120 for float64.
    l2 : float or callable, default 0
        Penalty, at least 0: ``l2·p``, the gradient of ``l2·Σp²/2``, is added to the gradient.
    momentum : float or callable, default 0
        In [0, 1]. A parameter has a buffer if its momentum was a callable or above 0 when it began
        to train.
    centered : bool, default False
        Divide by the deviation of the gradient from its average, which is kept too.
    groups, maximize, nonfinite, rows, row_steps, bfloat16, state_dir
        As for `AdamW`.
    state : {"full", "bfloat16", "compact"}, default "full"
        Format of the state, as for `AdamW`; not with `centered`.

    Notes
    -----
    This is torch's RMSprop. optax and Keras add `eps` inside the root. Rounding can make
    ``v - a²`` negative, for gradients that hardly change; torch's result is then NaN.

    References
    ----------
    Tieleman and Hinton, *Neural Networks for Machine Learning*, lecture 6.5; Graves, *Generating
    Sequences With Recurrent Neural Networks*, equations 38 to 41, for the centered form.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> w = np.array([1.0, -2.0])
    >>> opt = thalweg.RMSprop(w, lr=0.05 * thalweg.schedule.cosine(total=200))
    >>> for _ in range(200):
    ...     report = opt.step(2 * w)  # the gradient of w·w
    >>> bool(np.abs(w).max() < 0.01)
    True
    """

    rule = Rule.named("RMSprop")

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-2,
        *,
        alpha: Number = 0.99,
        eps: Number = 1e-8,
        l2: Number = 0.0,
        momentum: Number = 0.0,
        centered: bool = False,
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
        values = {"lr": lr, "alpha": alpha, "eps": eps, "l2": l2, "momentum": momentum}
        options = {"centered": centered, "maximize": maximize, "nonfinite": nonfinite}
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


def rmsprop(
    p: Arrays,
    g: Arrays,
    square_avg: Arrays,
    step: int,
    *,
    lr: Real,
    alpha: Real = 0.99,
    eps: Real = 1e-8,
    l2: Real = 0.0,
    momentum: Real = 0.0,
    grad_avg: Arrays | None = None,
    momentum_buffer: Arrays | None = None,
    square_avg_base: Arrays | None = None,
    low: Arrays | None = None,
    maximize: bool = False,
    scale: Real = 1.0,
    nonfinite: NonFinite = "raise",
    threads: int | None = None,
) -> bool:
    """Apply one RMSprop update in place; centered if `grad_avg` is given.

    The formula is that of `thalweg.RMSprop`. Momentum above 0 needs a `momentum_buffer`. The other
    arguments, result and errors are those of `adamw`, with `square_avg` in place of `exp_avg_sq`;
    beside a `grad_avg` it has the dtype of `p`.

    Examples
    --------
    >>> import numpy as np
    >>> p, v = np.ones(3), np.zeros(3)
    >>> rmsprop(p, np.full(3, 0.5), v, 1, lr=0.01)
    True
    >>> p.round(4)
    array([0.9, 0.9, 0.9])
    """
    values = {
        "lr": lr,
        "alpha": alpha,
        "eps": eps,
        "l2": l2,
        "momentum": momentum,
        "centered": grad_avg is not None,
        "maximize": maximize,
    }
    return _core.apply(
        "RMSprop",
        p,
        g,
        (square_avg, grad_avg, momentum_buffer),
        step,
        values,
        scale=scale,
        nonfinite=nonfinite,
        threads=threads,
        bases=square_avg_base,
        low=low,
    )

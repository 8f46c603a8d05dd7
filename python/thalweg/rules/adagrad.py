"""Adagrad."""

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

__all__ = ["Adagrad", "adagrad"]


class Adagrad(Optimizer):
    """Adagrad, which divides by the root of the sum of all squared gradients.

    At step `t` of a parameter, with gradient ``g <- scale·clip·g + l2·p``::

        s <- s + g²                  from initial_accumulator_value
        p <- p - lr/(1 + (t-1)·lr_decay) · g / ( √s + eps )

    `thalweg.reference.adagrad` is the exact definition.

    Parameters
    ----------
    params : tree of ndarray
        As for `AdamW`.
    lr : float or callable, default 1e-2
        Learning rate, at least 0.
    eps : float or callable, default 1e-10
        Added to the root; at least 1e-15 for float32 parameters, 1e-120 for float64.
    l2 : float or callable, default 0
        Penalty, at least 0: ``l2·p``, the gradient of ``l2·Σp²/2``, is added to the gradient.
    lr_decay : float or callable, default 0
        Decay of the learning rate by the step of the parameter, at least 0.
    initial_accumulator_value : float or callable, default 0
        The sum before the first step of a parameter, at least 0; later steps do not use it.
    groups, maximize, nonfinite, rows, row_steps, bfloat16, state_dir
        As for `AdamW`. ``rows="lazy"`` with an initial value of the sum needs ``row_steps=True``.
    state : {"full"}, default "full"
        Format of the sum: errors of rounding would add up in a smaller one.

    Notes
    -----
    This is torch's Adagrad. optax and Keras begin the sum at 0.1; optax adds `eps` inside the root.
    The sum does not exceed the largest number of its type.

    References
    ----------
    Duchi, Hazan and Singer, *Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization*, figure 1, with diagonal matrices.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> w = np.array([1.0, -2.0])
    >>> opt = thalweg.Adagrad(w, lr=1.0)
    >>> for _ in range(200):
    ...     report = opt.step(2 * w)  # the gradient of w·w
    >>> bool(np.abs(w).max() < 0.01)
    True
    """

    rule = Rule.named("Adagrad")

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-2,
        *,
        eps: Number = 1e-10,
        l2: Number = 0.0,
        lr_decay: Number = 0.0,
        initial_accumulator_value: Number = 0.0,
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
        values = {
            "lr": lr,
            "eps": eps,
            "l2": l2,
            "lr_decay": lr_decay,
            "initial_accumulator_value": initial_accumulator_value,
        }
        options = {"maximize": maximize, "nonfinite": nonfinite}
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


def adagrad(
    p: Arrays,
    g: Arrays,
    sum: Arrays,  # noqa: A002 - the name of the state array
    step: int,
    *,
    lr: Real,
    eps: Real = 1e-10,
    l2: Real = 0.0,
    lr_decay: Real = 0.0,
    initial_accumulator_value: Real = 0.0,
    low: Arrays | None = None,
    maximize: bool = False,
    scale: Real = 1.0,
    nonfinite: NonFinite = "raise",
    threads: int | None = None,
) -> bool:
    """Apply one Adagrad update in place.

    The formula is that of `thalweg.Adagrad`. Step 1 does not read `sum`: it begins at
    `initial_accumulator_value`. The other arguments, result and errors are those of `adamw`; `sum`
    has the dtype of `p`, or float32 for float16 and bfloat16.

    Examples
    --------
    >>> import numpy as np
    >>> p, s = np.ones(3), np.zeros(3)
    >>> adagrad(p, np.full(3, 0.5), s, 1, lr=0.1)
    True
    >>> p.round(4)
    array([0.9, 0.9, 0.9])
    """
    values = {
        "lr": lr,
        "eps": eps,
        "l2": l2,
        "lr_decay": lr_decay,
        "initial_accumulator_value": initial_accumulator_value,
        "maximize": maximize,
    }
    return _core.apply(
        "Adagrad",
        p,
        g,
        (sum,),
        step,
        values,
        scale=scale,
        nonfinite=nonfinite,
        threads=threads,
        low=low,
    )

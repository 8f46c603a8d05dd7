"""Lion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from thalweg import _core
from thalweg.groups.rule import Rule
from thalweg.optimizer import Optimizer
from thalweg.rules.arguments import default_weight_decay, refuse

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from thalweg.groups.matching import Match
    from thalweg.groups.specified import Groups
    from thalweg.numbers import Number, Real, RowsMeaning, StateFormat
    from thalweg.rules.arguments import Arrays, NonFinite

__all__ = ["Lion", "lion"]


class Lion(Optimizer):
    """Lion: steps of one size along the sign of an average, with decoupled weight decay.

    At a step of a parameter, with gradient ``g <- scale·clip·g``::

        c <- β1·m + (1-β1)·g
        m <- β2·m + (1-β2)·g
        p <- p - ( d·p + lr·sign(c) )
        d  = lr·weight_decay, or weight_decay if independent

    Each parameter moves by `lr`, or not at all where `c` is zero. So a good `lr` is 3 to 10 times
    smaller than that of `AdamW`, and `weight_decay` as many times larger. The state is one average:
    4 bytes a float32 parameter, half of `AdamW`'s. `thalweg.reference.lion` is the exact
    definition.

    Parameters
    ----------
    params : tree of ndarray
        As for `AdamW`.
    lr : float or callable, default 1e-4
        Learning rate, at least 0.
    betas : tuple of two floats or callables, default (0.9, 0.99)
        Weight of the average in the direction, and decay of the average, each in [0, 1).
    weight_decay : float or callable, default 1e-2
        Decay, at least 0.
    independent : bool, default False
        True decays by `weight_decay`, and needs an explicit `weight_decay`. False decays by
        ``lr·weight_decay``, as do the paper and optax.
    cautious : bool, default False
        As for `AdamW`.
    groups, maximize, nonfinite, rows, row_steps, bfloat16, state_dir
        As for `AdamW`.
    state : {"full", "bfloat16"}, default "full"
        Format of the average of float32 parameters: ``"bfloat16"`` keeps it in two bytes a
        parameter, dithered, as for `AdamW`.

    Notes
    -----
    The gradient's size does not matter but for its weight in the average: clipping by norm changes
    little, and a loss times a constant gives the same steps.

    References
    ----------
    Chen et al., *Symbolic Discovery of Optimization Algorithms*, algorithm 2.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> w = np.array([1.0, -2.0])
    >>> report = thalweg.Lion(w, lr=0.25, weight_decay=0.0).step(2 * w)
    >>> w
    array([ 0.75, -1.75])
    """

    rule = Rule.named("Lion")

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-4,
        *,
        betas: Sequence[Number] = (0.9, 0.99),
        weight_decay: Number | None = None,
        independent: bool = False,
        cautious: bool = False,
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
        weight_decay = default_weight_decay(weight_decay, independent)
        values = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        options = {
            "cautious": cautious,
            "independent": independent,
            "maximize": maximize,
            "nonfinite": nonfinite,
        }
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


def lion(
    p: Arrays,
    g: Arrays,
    exp_avg: Arrays,
    step: int,
    *,
    lr: Real,
    betas: Sequence[Real] = (0.9, 0.99),
    weight_decay: Real | None = None,
    independent: bool = False,
    cautious: bool = False,
    maximize: bool = False,
    low: Arrays | None = None,
    scale: Real = 1.0,
    nonfinite: NonFinite = "raise",
    threads: int | None = None,
) -> bool:
    """Apply one Lion update in place.

    The formula is that of `thalweg.Lion`. The other arguments, result and errors are those of
    `adamw`; a smaller `exp_avg` is uint16.

    Examples
    --------
    >>> import numpy as np
    >>> p, m = np.ones(3), np.zeros(3)
    >>> lion(p, np.full(3, 0.5), m, 1, lr=0.25, weight_decay=0.0)
    True
    >>> p
    array([0.75, 0.75, 0.75])
    """
    values = {
        "lr": lr,
        "betas": betas,
        "weight_decay": default_weight_decay(weight_decay, independent),
        "cautious": cautious,
        "independent": independent,
        "maximize": maximize,
    }
    return _core.apply(
        "Lion",
        p,
        g,
        (exp_avg,),
        step,
        values,
        scale=scale,
        nonfinite=nonfinite,
        threads=threads,
        low=low,
    )

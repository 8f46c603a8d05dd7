"""AdaBelief with decoupled weight decay."""

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

__all__ = ["AdaBelief", "adabelief"]


class AdaBelief(Optimizer):
    """Adam that divides by the deviation of the gradient from its average; decoupled decay.

    Where gradients are near their average, steps are large, even if the gradients are large. At
    step `t` of a parameter, with gradient ``g <- scale·clip·g``::

        m <- β1·m + (1-β1)·g
        s <- β2·s + (1-β2)·(g-m)² + eps_root
        p <- p - ( d·p + lr/(1-β1^t) · m / ( √s/√(1-β2^t) + eps ) )
        d  = lr·weight_decay, or weight_decay if independent

    `thalweg.reference.adabelief` is the exact definition.

    Parameters
    ----------
    params, lr, betas, weight_decay, independent, cautious
        As for `AdamW`.
    eps : float or callable, default 1e-15
        Added to the root; at least 1e-15 for float32 parameters, 1e-120 for float64.
    eps_root : float or callable, default 1e-16
        Added to `s` at each step, and kept in it; at least 0.
    groups, maximize, nonfinite, state, rows, row_steps, bfloat16, state_dir
        As for `AdamW`.

    Notes
    -----
    The paper has one ε for `eps` and `eps_root`. optax's ``adabelief`` has both, 1e-16 by default;
    its `eps` differs from the one here by less than 1e-8 of the root, which `eps_root` keeps above
    3e-7 with the default `betas`.

    References
    ----------
    Zhuang et al., *AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients*,
    algorithm 2.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> w = np.array([1.0, -2.0])
    >>> opt = thalweg.AdaBelief(w, lr=0.1, weight_decay=0.0)
    >>> for _ in range(200):
    ...     report = opt.step(2 * w)  # the gradient of w·w
    >>> bool(np.abs(w).max() < 0.01)
    True
    """

    rule = Rule.named("AdaBelief")

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-3,
        *,
        betas: Sequence[Number] = (0.9, 0.999),
        eps: Number = 1e-15,
        eps_root: Number = 1e-16,
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
        values = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "eps_root": eps_root,
            "weight_decay": weight_decay,
        }
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


def adabelief(
    p: Arrays,
    g: Arrays,
    exp_avg: Arrays,
    exp_avg_var: Arrays,
    step: int,
    *,
    lr: Real,
    betas: Sequence[Real] = (0.9, 0.999),
    eps: Real = 1e-15,
    eps_root: Real = 1e-16,
    weight_decay: Real | None = None,
    independent: bool = False,
    cautious: bool = False,
    exp_avg_var_base: Arrays | None = None,
    low: Arrays | None = None,
    maximize: bool = False,
    scale: Real = 1.0,
    nonfinite: NonFinite = "raise",
    threads: int | None = None,
) -> bool:
    """Apply one AdaBelief update in place.

    The formula is that of `thalweg.AdaBelief`. The other arguments, result and errors are those of
    `adamw`, with `exp_avg_var` in place of `exp_avg_sq`.

    Examples
    --------
    >>> import numpy as np
    >>> p, m, s = np.ones(3), np.zeros(3), np.zeros(3)
    >>> adabelief(p, np.full(3, 0.5), m, s, 1, lr=0.1, weight_decay=0.0)
    True
    >>> p.round(4)
    array([0.8889, 0.8889, 0.8889])
    """
    values = {
        "lr": lr,
        "betas": betas,
        "eps": eps,
        "eps_root": eps_root,
        "weight_decay": default_weight_decay(weight_decay, independent),
        "cautious": cautious,
        "independent": independent,
        "maximize": maximize,
    }
    return _core.apply(
        "AdaBelief",
        p,
        g,
        (exp_avg, exp_avg_var),
        step,
        values,
        scale=scale,
        nonfinite=nonfinite,
        threads=threads,
        bases=exp_avg_var_base,
        low=low,
    )

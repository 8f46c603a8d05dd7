"""AdamW without a schedule: gradients at a point between descent and average."""

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

__all__ = ["ScheduleFreeAdamW", "schedule_free_adamw"]


class ScheduleFreeAdamW(Optimizer):
    """AdamW whose averaged point replaces the decay of the learning rate.

    Three points: `z` descends, `x` is the weighted average of the `z`, and the parameters hold
    ``y = (1-β1)·z + β1·x``, at which gradients are taken. Train on the parameters as they are;
    evaluate, and save for use, inside `averaged`, where they hold `x`. At step `t` of a parameter,
    with gradient ``g <- scale·clip·g`` and `p` its `y`::

        h <- max(h, lr);   w = t^r · h^weight_lr_power;   s <- s + w;   c = w/s
        v <- β2·v + (1-β2)·g²
        u  = d·p + lr · g / ( √v/√(1-β2^t) + eps )
        p <- p + c·(z-p) - (1 - β1·(1-c))·u
        z <- z - u
        d  = lr·weight_decay, or weight_decay if independent

    `z` begins as the parameter. `thalweg.reference.schedule_free_adamw` is the exact definition,
    also where β1 changes: `x` is not moved by that.

    Parameters
    ----------
    params : tree of ndarray
        As for `AdamW`.
    lr : float or callable, default 2.5e-3
        Learning rate, at least 0; a constant, or a warmup into one, such as
        ``schedule.constant(2.5e-3, warmup=1000)``. A good one is 1 to 10 times that of `AdamW` with
        a schedule.
    betas : tuple of two floats or callables, default (0.9, 0.999)
        Share of `x` in the point of the gradients, in (0, 1), and decay of the second moment, in
        [0, 1).
    eps, weight_decay, independent
        As for `AdamW`; the decay acts at the parameters, that is at `y`.
    r : float or callable, default 0.0
        Power of the step in the weight of a step, at least 0. Above 0, late steps count more.
    weight_lr_power : float or callable, default 2.0
        Power of the largest learning rate so far in the weight of a step, at least 0, so that steps
        of a warmup count less.
    groups, maximize, nonfinite, bfloat16, state_dir
        As for `AdamW`.
    rows : {"dense"}, optional
        As for `AdamW`, without ``"lazy"``: the average moves at each step in every row.
    row_steps : {False}, default False
        For rules with lazy rows.
    state : {"full", "bfloat16", "compact"}, default "full"
        Format of `v` for float32 parameters, as for `AdamW`: 8, 6 or 5.016 bytes of state a
        parameter. `z` keeps every digit, because errors in it would add up.

    Notes
    -----
    The state is `z`, `v` as ``exp_avg_sq``, and ``history``: `h`, `s` and the β1 of the last step,
    as three float64. An `EMA` averages `y`.

    The PyPI package ``schedulefree`` has the same formula in ``AdamWScheduleFree``, with
    ``weight_decay=0`` and an own ``warmup_steps``. It has one `t`, `h` and `s` for a group; here
    each parameter has its own. Its ``optimizer.eval()`` is the beginning of a block of `averaged`,
    ``optimizer.train()`` the end.

    References
    ----------
    Defazio et al., *The Road Less Scheduled*, algorithm 1.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> from thalweg import schedule
    >>> w = np.array([1.0, -2.0])
    >>> lr = schedule.constant(0.2, warmup=10)
    >>> opt = thalweg.ScheduleFreeAdamW(w, lr=lr, weight_decay=0.0)
    >>> for _ in range(200):
    ...     report = opt.step(2 * w)  # the gradient of w·w
    >>> with opt.averaged() as average:
    ...     bool(np.abs(average).max() < 0.01)
    True
    """

    rule = Rule.named("ScheduleFreeAdamW")

    def __init__(
        self,
        params: Any,
        lr: Number = 2.5e-3,
        *,
        betas: Sequence[Number] = (0.9, 0.999),
        eps: Number = 1e-8,
        weight_decay: Number | None = None,
        r: Number = 0.0,
        weight_lr_power: Number = 2.0,
        independent: bool = False,
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
            "betas": betas,
            "eps": eps,
            "weight_decay": default_weight_decay(weight_decay, independent),
            "r": r,
            "weight_lr_power": weight_lr_power,
        }
        options = {"independent": independent, "maximize": maximize, "nonfinite": nonfinite}
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

    def averaged(self) -> _core.Swapped:
        """Context manager in which the parameters hold their average `x`, for evaluation.

        ``with opt.averaged():`` returns the parameters' tree. At the end of the block the
        parameters have every bit back, whatever was written into them inside; meanwhile a copy
        takes 4 bytes a parameter, 8 in float64. Frozen parameters, and those that never trained,
        stay as they are. Inside, steps, edits, loading and saving are refused, so that the average
        is not trained by mistake; save the parameters there by other means, such as ``np.savez``.

        Raises
        ------
        ValueError
            If the parameters no longer fit; nothing is changed.
        BusyError
            Inside another such block, `EMA.swapped` and `Optimizer.open_step`.

        Examples
        --------
        >>> import numpy as np, thalweg
        >>> params = {"w": np.zeros(1)}
        >>> opt = thalweg.ScheduleFreeAdamW(params, 0.5, betas=(0.5, 0.999), weight_decay=0.0)
        >>> for _ in range(2):
        ...     report = opt.step({"w": -np.ones(1)})
        >>> with opt.averaged():
        ...     params["w"].round(6)
        array([0.75])
        >>> params["w"].round(6), opt.state["w"]["z"].round(6)
        (array([0.875]), array([1.]))
        """
        return _core.Swapped.found(self._held.updater, self._held.tree)


def schedule_free_adamw(
    p: Arrays,
    g: Arrays,
    z: Arrays,
    exp_avg_sq: Arrays,
    step: int,
    *,
    history: Arrays,
    lr: Real,
    betas: Sequence[Real] = (0.9, 0.999),
    eps: Real = 1e-8,
    weight_decay: Real | None = None,
    r: Real = 0.0,
    weight_lr_power: Real = 2.0,
    independent: bool = False,
    exp_avg_sq_base: Arrays | None = None,
    low: Arrays | None = None,
    maximize: bool = False,
    scale: Real = 1.0,
    nonfinite: NonFinite = "raise",
    threads: int | None = None,
) -> bool:
    """Apply one schedule-free AdamW update in place.

    The formula is that of `thalweg.ScheduleFreeAdamW`; `p` is its `y`. Other arguments, result and
    errors are those of `adamw`.

    Parameters
    ----------
    z : ndarray or sequence of ndarray
        As `exp_avg_sq`, but with every digit; the first update begins it at `p`.
    history : ndarray or sequence of ndarray
        Three float64 for each `p`, zero before the first update; written. Slices of one parameter
        have each their own.

    Examples
    --------
    >>> import numpy as np
    >>> p, z, v, history = np.ones(3), np.zeros(3), np.zeros(3), np.zeros(3)
    >>> for step in (1, 2):
    ...     done = schedule_free_adamw(
    ...         p, np.full(3, 0.5), z, v, step, history=history, lr=0.1, weight_decay=0.0
    ...     )
    >>> p.round(4), z.round(4), history.round(4)
    (array([0.845, 0.845, 0.845]), array([0.8, 0.8, 0.8]), array([0.1 , 0.02, 0.9 ]))
    """
    values = {
        "lr": lr,
        "betas": betas,
        "eps": eps,
        "weight_decay": default_weight_decay(weight_decay, independent),
        "r": r,
        "weight_lr_power": weight_lr_power,
        "independent": independent,
        "maximize": maximize,
    }
    return _core.apply(
        "ScheduleFreeAdamW",
        p,
        g,
        (z, exp_avg_sq),
        step,
        values,
        scale=scale,
        nonfinite=nonfinite,
        threads=threads,
        bases=exp_avg_sq_base,
        low=low,
        history=history,
    )

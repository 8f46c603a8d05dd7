"""AdamW."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from thalweg import _core
from thalweg.groups.rule import Rule
from thalweg.optimizer import Optimizer
from thalweg.rules.arguments import default_weight_decay, limit, options_of, refuse

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from thalweg.groups.matching import Match
    from thalweg.groups.specified import Groups
    from thalweg.numbers import Number, Real, RowsMeaning, StateFormat
    from thalweg.rules.arguments import Arrays, NonFinite

__all__ = ["AdamW", "adamw"]


class AdamW(Optimizer):
    """Adam with decoupled weight decay; AMSGrad with ``amsgrad=True``.

    At step `t` of a parameter, with gradient ``g <- scale·clip·g``::

        m <- β1·m + (1-β1)·g
        v <- β2·v + (1-β2)·g²
        p <- p - ( d·p + lr/(1-β1^t) · m / ( √v/√(1-β2^t) + eps ) )
        d  = lr·weight_decay, or weight_decay if independent

    The decay does not depend on the gradients of a weight, whereas `Adam`'s ``l2`` is divided by
    their history. `thalweg.reference.adam` is the exact definition.

    Parameters
    ----------
    params : tree of ndarray
        Writable float32, float64, float16 or bfloat16 (`ml_dtypes`) arrays, in mappings, lists,
        tuples; updated in place.
    lr : float or callable, default 1e-3
        Learning rate, at least 0. A group that sets ``lr`` does not follow a schedule given here; a
        group that sets ``lr_scale`` does.
    betas : tuple of two floats or callables, default (0.9, 0.999)
        Decay of the first and second moment, each in [0, 1).
    eps : float or callable, default 1e-8
        Added to the root; at least 1e-15 for float32 parameters, 1e-120 for float64.
    weight_decay : float or callable, default 1e-2
        Decay, at least 0.
    independent : bool, default False
        True decays by `weight_decay`, the paper's ``η_t·λ``, and needs an explicit `weight_decay`.
        False decays by ``lr·weight_decay``, as do torch, optax and Keras.
    update_rms : float or callable, optional
        Limit on the root mean square of ``g / max(√v/√(1-β2^t), eps)`` over a parameter, such as 1.
        Where it exceeds the limit, the step of the parameter divides `lr` by the excess. 0, as
        None, is no limit.
    cautious : bool, default False
        Apply only changes that have the sign of the gradient; they are divided by their part of the
        elements of the parameter, or by 1e-3 if there are fewer. The decay is applied to all.
    amsgrad : bool, default False
        Keep the running maximum of the second moment.
    groups : sequence of mappings
        Parameter groups, which cascade: of the groups that match a parameter, the last one that
        sets a key wins. Each has ``match`` (a name, a glob such as ``"*.b"``, a list of them, or a
        callable of name and array) and any hyperparameters, ``lr_scale``, ``frozen``, ``name``; or
        is a ready group such as `thalweg.no_decay`. A group that matches nothing is an error.
    maximize : bool, default False
        Ascend instead of descend.
    nonfinite : {"raise", "skip", "ignore"}
        Treatment of gradients that are NaN, infinite, or overflow once scaled (for Adam: once
        squared). They never reach finite parameters or state, except with ``"ignore"``, which
        saves the pass that detects them.
    state : {"full", "bfloat16", "compact"}, default "full"
        Format of the moments of float32 parameters. ``"full"`` keeps float32: 8 bytes a parameter.
        ``"bfloat16"`` keeps each in two bytes, dithered: 4 bytes. ``"compact"`` keeps `v` in one
        byte and an exponent for each 64 elements: 3.016 bytes, for parameters of at least 4,096
        elements. A group may set it; it is fixed once a parameter has state. Not with `amsgrad`.
        See `thalweg.compact`.
    rows : {"lazy", "dense"}, optional
        Meaning of a gradient that is `thalweg.Rows`, which is refused without it. ``"lazy"``
        updates its rows alone: the others stay as they are, with their state. ``"dense"`` takes the
        gradient of the other rows as zero. A group may set it.
    row_steps : bool, default False
        With ``rows="lazy"``, `t` is a number of updates of each row, in ``row_steps`` of its state,
        instead of one of the parameter. A gradient that is an array updates every row. A group may
        set it; it is fixed once a parameter has state.
    bfloat16 : str, sequence of str or callable, default ()
        Selects, as the match of a group, parameters in arrays of uint16 that hold the bits of
        bfloat16 numbers, as do their gradients of uint16.
    state_dir : path, optional
        Keep parameters and state in memory-mapped files of this directory, so that they may be
        larger than memory and outlive the process. Parameters that train must be maps of files
        there, as `thalweg.map_params` returns them. An optimizer that another process makes with
        the same arguments continues with the same bits; hyperparameters and groups are those of the
        constructor. A directory with an interrupted step is refused.

    Raises
    ------
    TypeError
        For parameters that are no ndarrays of these dtypes, unknown keys, wrong types.
    ValueError
        For values out of range, arrays that are read-only or overlap, groups that match nothing,
        and for a `state_dir` of another model or with damaged or missing files.
    BusyError
        If another optimizer uses `state_dir`, in this process or another.

    Notes
    -----
    A float16 or bfloat16 parameter is the nearest one to a float32 number; its state has in ``low``
    what it lacks (int16, zero at first), so that steps below its last place add up. A program that
    writes into such a parameter makes ``low`` out of date, by at most half of the last place.

    A callable hyperparameter is called with the 1-based number of the step. Decay uses the old `p`;
    decay and step are added before `p` is rounded once.

    References
    ----------
    Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, algorithm 2.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> params = {"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}
    >>> opt = thalweg.AdamW(params, lr=0.1, groups=[{"match": "b", "weight_decay": 0.0}])
    >>> opt
    AdamW(lr=0.1, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01;
          2 arrays, 9 parameters train, 72 bytes of state, step 0)
    >>> opt.step({"w": np.ones((2, 3)), "b": None}).step
    1
    >>> params["w"][0]
    array([0.899, 0.899, 0.899], dtype=float32)
    """

    rule = Rule.named("AdamW")

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-3,
        *,
        betas: Sequence[Number] = (0.9, 0.999),
        eps: Number = 1e-8,
        weight_decay: Number | None = None,
        independent: bool = False,
        update_rms: Number | None = None,
        cautious: bool = False,
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
        weight_decay = default_weight_decay(weight_decay, independent)
        values = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        values |= limit(update_rms)
        options = options_of(maximize, nonfinite, amsgrad=amsgrad, independent=independent)
        if cautious is not False:  # state dicts from before this option lack it
            options["cautious"] = cautious
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


def adamw(
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
    max_exp_avg_sq: Arrays | None = None,
    exp_avg_sq_base: Arrays | None = None,
    low: Arrays | None = None,
    maximize: bool = False,
    scale: Real = 1.0,
    nonfinite: NonFinite = "raise",
    threads: int | None = None,
) -> bool:
    """Apply one AdamW update in place; AMSGrad if `max_exp_avg_sq` is given.

    The formula is that of `thalweg.AdamW`.

    Parameters
    ----------
    p : ndarray or sequence of ndarray
        Parameters, float32, float64, float16 or bfloat16, with any strides; written.
    g : ndarray or sequence of ndarray
        Gradients of the same shapes, float32, float64, float16 or bfloat16; only read. `Rows`
        update these rows of `p` and of its state alone.
    exp_avg, exp_avg_sq, max_exp_avg_sq : ndarray or sequence of ndarray
        State of the shapes of `p`, zero before the first update; written. The dtype is that of `p`
        (float32 for float16 and bfloat16), or for a smaller state of a parameter that is not
        float64: uint16, the bits of bfloat16, for `exp_avg` and `exp_avg_sq`; uint8 for
        `exp_avg_sq`, which is then C-contiguous. See `thalweg.compact`.
    exp_avg_sq_base : ndarray or sequence, optional
        For an `exp_avg_sq` in uint8: one uint8 for each block of 64 elements of the flat array,
        zero before the first update; written. A slice begins at a multiple of 64.
    low : ndarray or sequence, optional
        For `p` in float16 or bfloat16: what it lacks of its float32, int16 of its shape, zero
        before the first update; written.
    step : int
        1-based number of this update.
    lr, betas, eps, weight_decay, independent, update_rms, cautious, maximize
        As for `thalweg.AdamW`, but without callables. A slice is measured on its own.
    scale : float, default 1
        Factor on the gradients, finite and above 0.
    nonfinite : {"raise", "skip", "ignore"}, default "raise"
        Treatment of gradients that are NaN, infinite or too large.
    threads : int, optional
        Maximum number of threads; by default `thalweg.get_num_threads`.

    Returns
    -------
    bool
        False if ``nonfinite="skip"`` and the update was skipped.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or value; nothing is written.
    NonFiniteError
        With ``nonfinite="raise"``; nothing is written.

    Examples
    --------
    >>> import numpy as np
    >>> p, m, v = np.ones(3), np.zeros(3), np.zeros(3)
    >>> adamw(p, np.full(3, 0.5), m, v, 1, lr=0.1)
    True
    >>> p.round(6)
    array([0.899, 0.899, 0.899])
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
        "AdamW",
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

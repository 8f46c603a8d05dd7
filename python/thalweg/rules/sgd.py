"""SGD and SGDW, with or without momentum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from thalweg import _core
from thalweg.groups.rule import Rule
from thalweg.optimizer import Optimizer
from thalweg.rules.arguments import default_weight_decay, options_of, refuse

if TYPE_CHECKING:
    import os

    from thalweg.groups.matching import Match
    from thalweg.groups.specified import Groups
    from thalweg.numbers import Number, Real, RowsMeaning, StateFormat
    from thalweg.rules.arguments import Arrays, NonFinite

__all__ = ["SGD", "SGDW", "sgd", "sgdw"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and an L2 penalty in the gradient.

    At step `t` of a parameter, with gradient ``g <- scale·clip·g + l2·p``::

        b <- g at t = 1, else momentum·b + (1-dampening)·g
        p <- p - lr·b, or p - lr·(g + momentum·b) with nesterov

    Without momentum there is no buffer, and ``p <- p - lr·g``. `thalweg.reference.sgd` is the exact
    definition.

    Parameters
    ----------
    params : tree of ndarray
        Writable float32, float64, float16 or bfloat16 (`ml_dtypes`) arrays, in mappings, lists,
        tuples; updated in place.
    lr : float or callable
        Learning rate, at least 0.
    momentum : float or callable, default 0
        In [0, 1]; 1 sums the gradients. It cannot be changed from zero to non-zero later.
    dampening : float or callable, default 0
        In [0, 1]; ignored without momentum.
    nesterov : bool, default False
        Nesterov's form; needs momentum above 0 and dampening 0.
    l2 : float or callable, default 0
        Penalty, at least 0: ``l2·p``, the gradient of ``l2·Σp²/2``, is added to the gradient.
    groups, maximize, nonfinite, rows, row_steps, state_dir
        As for `AdamW`.
    state : {"full", "bfloat16"}, default "full"
        Format of the momentum buffer of float32 parameters: ``"bfloat16"`` keeps it in two bytes a
        parameter, dithered, as for `AdamW`.
    bfloat16 : str, sequence of str or callable, default ()
        As for `AdamW`.

    Notes
    -----
    The learning rate is outside the momentum buffer, as in torch. In the paper of `SGDW` it is
    inside.

    References
    ----------
    Sutskever et al., *On the importance of initialization and momentum in deep learning*.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> w = np.array([1.0, -2.0])
    >>> report = thalweg.SGD(w, lr=0.25).step(2 * w)
    >>> w
    array([ 0.5, -1. ])
    """

    rule = Rule.named("SGD")

    def __init__(
        self,
        params: Any,
        lr: Number,
        *,
        momentum: Number = 0.0,
        dampening: Number = 0.0,
        nesterov: bool = False,
        l2: Number = 0.0,
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
        values = {"lr": lr, "momentum": momentum, "dampening": dampening, "l2": l2}
        options = options_of(maximize, nonfinite, nesterov=nesterov)
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


class SGDW(Optimizer):
    """Stochastic gradient descent with momentum and decoupled weight decay.

    As `SGD`, with gradient ``g <- scale·clip·g`` and ``p <- p - (d·p + lr·b)``, where `d` is
    ``lr·weight_decay``, or ``weight_decay`` if independent. Without momentum, the former is the
    update of `SGD` with ``l2=weight_decay``. With momentum it is not, because `SGD` adds the
    penalty to the buffer.

    Parameters
    ----------
    params, lr, momentum, dampening, nesterov
        As for `SGD`.
    weight_decay : float or callable, default 1e-2
        Decay, at least 0.
    independent : bool, default False
        True decays by `weight_decay`, the paper's ``η_t·λ``, and needs an explicit `weight_decay`.
        False decays by ``lr·weight_decay``.
    groups, maximize, nonfinite, rows, row_steps, state_dir
        As for `AdamW`.
    state, bfloat16
        As for `SGD`.

    Notes
    -----
    The learning rate is outside the momentum buffer, as in torch. In the paper it is inside.

    References
    ----------
    Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, algorithm 1.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> w = np.array([1.0, -2.0])
    >>> report = thalweg.SGDW(w, lr=0.25, weight_decay=0.4).step(2 * w)
    >>> w
    array([ 0.4, -0.8])
    """

    rule = Rule.named("SGDW")

    def __init__(
        self,
        params: Any,
        lr: Number,
        *,
        momentum: Number = 0.0,
        dampening: Number = 0.0,
        nesterov: bool = False,
        weight_decay: Number | None = None,
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
        weight_decay = default_weight_decay(weight_decay, independent)
        values = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
        }
        options = options_of(maximize, nonfinite, nesterov=nesterov, independent=independent)
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


def sgdw(
    p: Arrays,
    g: Arrays,
    momentum_buffer: Arrays | None,
    step: int,
    *,
    lr: Real,
    momentum: Real = 0.0,
    dampening: Real = 0.0,
    nesterov: bool = False,
    weight_decay: Real | None = None,
    independent: bool = False,
    maximize: bool = False,
    low: Arrays | None = None,
    scale: Real = 1.0,
    nonfinite: NonFinite = "raise",
    threads: int | None = None,
) -> bool:
    """Apply one SGDW update in place; `momentum_buffer` is None without momentum.

    The formula is that of `thalweg.SGDW`. The other arguments, result and errors are those of
    `adamw`; a smaller `momentum_buffer` is uint16.

    Examples
    --------
    >>> import numpy as np
    >>> p, b = np.ones(3), np.zeros(3)
    >>> sgdw(p, np.full(3, 0.5), b, 1, lr=0.1, momentum=0.9, weight_decay=0.0)
    True
    >>> p
    array([0.95, 0.95, 0.95])
    """
    values = {
        "lr": lr,
        "momentum": momentum,
        "dampening": dampening,
        "nesterov": nesterov,
        "weight_decay": default_weight_decay(weight_decay, independent),
        "independent": independent,
        "maximize": maximize,
    }
    return _core.apply(
        "SGDW",
        p,
        g,
        (momentum_buffer,),
        step,
        values,
        scale=scale,
        nonfinite=nonfinite,
        threads=threads,
        low=low,
    )


def sgd(
    p: Arrays,
    g: Arrays,
    momentum_buffer: Arrays | None,
    step: int,
    *,
    lr: Real,
    momentum: Real = 0.0,
    dampening: Real = 0.0,
    nesterov: bool = False,
    l2: Real = 0.0,
    maximize: bool = False,
    low: Arrays | None = None,
    scale: Real = 1.0,
    nonfinite: NonFinite = "raise",
    threads: int | None = None,
) -> bool:
    """Apply one SGD update in place; `momentum_buffer` is None without momentum.

    The formula is that of `thalweg.SGD`. The other arguments, result and errors are those of
    `adamw`; a smaller `momentum_buffer` is uint16.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.ones(3)
    >>> sgd(p, np.full(3, 0.5), None, 1, lr=0.1)
    True
    >>> p
    array([0.95, 0.95, 0.95])
    """
    values = {
        "lr": lr,
        "momentum": momentum,
        "dampening": dampening,
        "nesterov": nesterov,
        "l2": l2,
        "maximize": maximize,
    }
    return _core.apply(
        "SGD",
        p,
        g,
        (momentum_buffer,),
        step,
        values,
        scale=scale,
        nonfinite=nonfinite,
        threads=threads,
        low=low,
    )

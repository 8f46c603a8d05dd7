"""The optimizers: one class per rule, with its formula, hyperparameters and defaults."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from thalweg.groups.rule import Rule
from thalweg.groups.values import unknown_argument
from thalweg.optimizer import Optimizer

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from thalweg.groups.matching import Match
    from thalweg.groups.specified import Groups
    from thalweg.numbers import Number, StateFormat

__all__ = ["SGD", "SGDW", "Adam", "AdamW"]

DEFAULT_WEIGHT_DECAY = 1e-2

NonFinite = Literal["raise", "skip", "ignore"]


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
        bfloat16: Match = (),
        state_dir: str | os.PathLike[str] | None = None,
        **unsupported: NoReturn,
    ) -> None:
        _refuse(type(self), unsupported)
        values = {"lr": lr, "betas": betas, "eps": eps, "l2": l2}
        options = _options(maximize, nonfinite, amsgrad=amsgrad)
        self._start(
            params, groups, values, options, state=state, bfloat16=bfloat16, state_dir=state_dir
        )


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
        amsgrad: bool = False,
        groups: Groups = (),
        maximize: bool = False,
        nonfinite: NonFinite = "raise",
        state: StateFormat = "full",
        bfloat16: Match = (),
        state_dir: str | os.PathLike[str] | None = None,
        **unsupported: NoReturn,
    ) -> None:
        _refuse(type(self), unsupported)
        weight_decay = default_weight_decay(weight_decay, independent)
        values = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        options = _options(maximize, nonfinite, amsgrad=amsgrad, independent=independent)
        self._start(
            params, groups, values, options, state=state, bfloat16=bfloat16, state_dir=state_dir
        )


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
    groups, maximize, nonfinite, state_dir
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
        bfloat16: Match = (),
        state_dir: str | os.PathLike[str] | None = None,
        **unsupported: NoReturn,
    ) -> None:
        _refuse(type(self), unsupported)
        values = {"lr": lr, "momentum": momentum, "dampening": dampening, "l2": l2}
        options = _options(maximize, nonfinite, nesterov=nesterov)
        self._start(
            params, groups, values, options, state=state, bfloat16=bfloat16, state_dir=state_dir
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
    groups, maximize, nonfinite, state_dir
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
        bfloat16: Match = (),
        state_dir: str | os.PathLike[str] | None = None,
        **unsupported: NoReturn,
    ) -> None:
        _refuse(type(self), unsupported)
        weight_decay = default_weight_decay(weight_decay, independent)
        values = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
        }
        options = _options(maximize, nonfinite, nesterov=nesterov, independent=independent)
        self._start(
            params, groups, values, options, state=state, bfloat16=bfloat16, state_dir=state_dir
        )


def _options(
    maximize: bool,
    nonfinite: str,
    *,
    amsgrad: bool = False,
    nesterov: bool = False,
    independent: bool = False,
) -> dict[str, Any]:
    return {
        "amsgrad": amsgrad,
        "nesterov": nesterov,
        "independent": independent,
        "maximize": maximize,
        "nonfinite": nonfinite,
    }


def _refuse(cls: type[Optimizer], unsupported: Mapping[str, Any]) -> None:
    for key in unsupported:
        arguments = list(signature(cls.__init__).parameters)
        known = arguments[arguments.index("params") + 1 : -1]
        raise TypeError(unknown_argument(cls.rule, key, known))


def default_weight_decay(weight_decay: Number | None, independent: bool) -> Number:
    """`weight_decay`, or its default, which applies to ``lr·weight_decay`` only.

    Raises
    ------
    TypeError
        For ``independent=True`` without `weight_decay`.
    """
    if weight_decay is not None:
        return weight_decay
    if independent:
        raise TypeError(
            "independent=True needs an explicit weight_decay: it is not multiplied by lr, so the "
            f"default of {DEFAULT_WEIGHT_DECAY} would be far too strong"
        )
    return DEFAULT_WEIGHT_DECAY

"""Updates in place, as functions, for tools that keep their own optimizer state.

Each array argument is one array, or a list or tuple of arrays; all lists have the same length, and
an array that a tensor lacks is None. `step` is the 1-based number of this update. Cutting the
arrays into slices does not change the bits; state in blocks is cut between blocks. With
``threads=1`` all work runs on the calling thread. All arguments are checked before the first write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from thalweg import _core
from thalweg.optimizers import default_weight_decay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thalweg.numbers import Real
    from thalweg.optimizers import NonFinite

    Arrays: TypeAlias = NDArray[Any] | Sequence[NDArray[Any]]

__all__ = ["adam", "adamw", "clip_by_global_norm", "decay", "global_norm", "sgd", "sgdw"]


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
        Gradients of the same shapes, float32, float64, float16 or bfloat16; only read.
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
    lr, betas, eps, weight_decay, independent, maximize
        As for `thalweg.AdamW`, but without callables.
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


def decay(params: Any, rate: Real) -> None:
    """Apply weight decay alone: ``p <- p - rate·p`` for every array of a tree, in place.

    An Adam step without decay, followed by ``decay(params, lr * weight_decay)``, equals AdamW up
    to terms of the order ``lr² · weight_decay``.

    Parameters
    ----------
    params : tree of ndarray
        Writable float32 or float64 arrays.
    rate : float
        Finite and at least 0.

    Raises
    ------
    TypeError, ValueError
        For unsuitable arrays, or a rate out of range; nothing is written.

    References
    ----------
    Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> w = np.array([2.0, -4.0])
    >>> decay(w, 0.25)
    >>> w
    array([ 1.5, -3. ])
    """
    _core.decay(params, rate)


def global_norm(grads: Any) -> float:
    """Euclidean norm over all arrays of a tree; NaN or infinite if any element is.

    The sum is taken in float64 in a fixed order: strides, the order of containers and the number
    of threads do not change its bits.

    Examples
    --------
    >>> import numpy as np
    >>> global_norm({"w": np.array([3.0, 0.0]), "b": np.array([4.0])})
    5.0
    """
    return _core.global_norm(grads)


def clip_by_global_norm(grads: Any, max_norm: Real) -> float:
    """Scale gradients in place so that their global norm is at most `max_norm`.

    ``opt.step(grads, max_norm=...)`` has the same effect and does not write to the gradients.

    Parameters
    ----------
    grads : tree of ndarray
        Writable float32 or float64 arrays.
    max_norm : float
        Greater than 0.

    Returns
    -------
    float
        The norm before scaling. If it is NaN or infinite, the gradients stay unchanged.

    Raises
    ------
    ValueError
        If `max_norm` is out of range or an array is read-only; nothing is written.

    Examples
    --------
    >>> import numpy as np
    >>> g = np.array([3.0, 4.0])
    >>> clip_by_global_norm(g, 1.0)
    5.0
    >>> g
    array([0.6, 0.8])
    """
    return _core.clip_by_global_norm(grads, max_norm)

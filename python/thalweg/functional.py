"""Updates in place, as functions, for tools that keep their own optimizer state.

Each array argument is one array, or a list or tuple of arrays; all lists have the same length, and
an array that a tensor lacks is None. `step` is the 1-based number of this update. Cutting the
arrays into slices does not change the bits; state in blocks is cut between blocks. With
``threads=1`` all work runs on the calling thread. All arguments are checked before the first write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thalweg import _core
from thalweg.rules.adabelief import adabelief
from thalweg.rules.adagrad import adagrad
from thalweg.rules.adam import adam
from thalweg.rules.adamw import adamw
from thalweg.rules.lion import lion
from thalweg.rules.nadam import nadamw
from thalweg.rules.radam import radamw
from thalweg.rules.rmsprop import rmsprop
from thalweg.rules.schedule_free import schedule_free_adamw
from thalweg.rules.sgd import sgd, sgdw

if TYPE_CHECKING:
    from thalweg.numbers import Real

__all__ = [
    "adabelief",
    "adagrad",
    "adam",
    "adamw",
    "clip_by_global_norm",
    "decay",
    "global_norm",
    "lion",
    "nadamw",
    "radamw",
    "rmsprop",
    "schedule_free_adamw",
    "sgd",
    "sgdw",
]


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

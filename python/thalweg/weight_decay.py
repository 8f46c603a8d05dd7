"""How strong a weight decay is, and how to choose one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg import _core

if TYPE_CHECKING:
    from thalweg.numbers import Real

__all__ = ["AveragingTime", "averaging_time", "normalized_decay"]


def normalized_decay(lambda_norm: Real, batch_size: int, samples: int, epochs: Real) -> float:
    """Weight decay of a run, from one that fits runs of any length: ``λ = λ_norm·√(b/(B·T))``.

    The longer a run, the weaker its best decay. ``λ_norm`` depends on the length much less: it is
    the decay of a run of a single step.

    Parameters
    ----------
    lambda_norm : float
        ``λ_norm``, finite and at least 0.
    batch_size : int
        ``b``, samples a step; from 1 to `samples`.
    samples : int
        ``B``, samples of the training set.
    epochs : float
        ``T``, epochs of the run; with warm restarts, of the present cycle. Finite and above 0.

    Returns
    -------
    float
        The paper's ``λ``, which its schedule ``η_t`` multiplies and its learning rate does not:
        the `weight_decay` of ``independent=True``. For ``lr·weight_decay``, our default, divide it
        by the learning rate, without the schedule.

    Raises
    ------
    TypeError, ValueError
        For what is no number, or out of range.

    References
    ----------
    Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, 2019, appendix B.1.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> decay = thalweg.normalized_decay(0.05, batch_size=128, samples=50_000, epochs=100)
    >>> round(decay, 9)
    0.000252982
    >>> paper = thalweg.AdamW(np.ones(3), lr=1e-3, weight_decay=decay, independent=True)
    >>> same = thalweg.AdamW(np.ones(3), lr=1e-3, weight_decay=decay / 1e-3)
    """
    lambda_norm = _core.check_number("lambda_norm", lambda_norm)
    if not 0.0 <= lambda_norm < math.inf:
        raise ValueError(f"lambda_norm must be finite and at least 0, got {lambda_norm}")
    epochs = _core.check_number("epochs", epochs)
    if not 0.0 < epochs < math.inf:
        raise ValueError(f"epochs must be finite and greater than 0, got {epochs}")
    return lambda_norm * math.sqrt(1.0 / (_steps_an_epoch(batch_size, samples) * epochs))


@dataclass(frozen=True)
class AveragingTime:
    """How far back weights remember; printed, a sentence. See `averaging_time`."""

    steps: float
    """Time constant in steps; infinite without decay."""
    epochs: float | None = None
    """The same in epochs, where the size of one is known."""

    def __str__(self) -> str:
        if math.isinf(self.steps):
            return "no decay: weights add up the updates of all steps, and forget none"
        epochs = "" if self.epochs is None else f" ({_about(self.epochs)} epochs)"
        return (
            f"weights average the updates of about the last {_about(self.steps)} steps{epochs}; "
            "what is older fades"
        )


def averaging_time(
    lr: Real,
    weight_decay: Real,
    *,
    independent: bool = False,
    batch_size: int | None = None,
    samples: int | None = None,
) -> AveragingTime:
    """Time constant of the average of updates that decoupled decay makes of the weights.

    With ``d = lr·weight_decay`` the step ``p <- p - (d·p + lr·u)`` is
    ``p <- (1-d)·p + d·(-u/weight_decay)``: an exponential moving average of what the rule
    proposes. An update `k` steps ago counts ``(1-d)^k``, so the average goes back about ``1/d``
    steps. What suits a small model and little data suits larger ones too, if it is kept in epochs:
    not much below one epoch, so that all samples are in the average, and not much beyond the run,
    so that its beginning fades.

    Parameters
    ----------
    lr, weight_decay : float
        As for `thalweg.AdamW`; numbers. Of a schedule, its value at the step in
        question.
    independent : bool, default False
        As for `thalweg.AdamW`: ``d = weight_decay``.
    batch_size, samples : int, optional
        Samples a step, and of the training set, for the time in epochs; both or none.

    Returns
    -------
    AveragingTime
        ``steps`` and ``epochs``; printed, a sentence.

    Raises
    ------
    TypeError, ValueError
        For what is no number, or out of range; and for ``d`` above 1, which turns weights round
        instead of averaging them.

    Notes
    -----
    ``weight_decay = 1/(lr·steps)`` is the way back.

    References
    ----------
    Wang and Aitchison, *How to set AdamW's weight decay as you scale model and dataset size*,
    2025.

    Examples
    --------
    >>> import thalweg
    >>> time = thalweg.averaging_time(1e-3, 0.1, batch_size=128, samples=50_000)
    >>> print(time)
    weights average the updates of about the last 10,000 steps (25.6 epochs);
    what is older fades
    >>> time.steps, time.epochs
    (10000.0, 25.6)
    >>> print(thalweg.averaging_time(1e-3, 0.0))
    no decay: weights add up the updates of all steps, and forget none
    """
    lr = _core.check_hyperparameter("lr", lr)
    weight_decay = _core.check_hyperparameter("weight_decay", weight_decay)
    rate = weight_decay if independent else lr * weight_decay
    if rate > 1.0:
        factor = "weight_decay" if independent else "lr * weight_decay"
        raise ValueError(f"{factor} must be at most 1 for weights to be an average, got {rate}")
    steps = 1.0 / rate if rate > 0.0 else math.inf
    if (batch_size is None) != (samples is None):
        raise TypeError("batch_size and samples go together: both make an epoch")
    if batch_size is None:
        return AveragingTime(steps)
    return AveragingTime(steps, steps / _steps_an_epoch(batch_size, samples))


def _steps_an_epoch(batch_size: Any, samples: Any) -> float:
    batch_size = _core.check_whole("batch_size", batch_size, 1)
    samples = _core.check_whole("samples", samples, 1)
    if batch_size > samples:
        raise ValueError(f"batch_size must be at most samples, {samples}, got {batch_size}")
    return float(samples / batch_size)


def _about(value: float) -> str:
    """Three digits of it."""
    return f"{float(f'{value:.3g}'):,.10g}"

"""Choice of a weight decay: its value for the length of a run, its time constant in steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg import _core

if TYPE_CHECKING:
    from thalweg.numbers import Real

__all__ = ["AveragingTime", "averaging_time", "normalized_decay"]


def normalized_decay(lambda_norm: Real, batch_size: int, samples: int, epochs: Real) -> float:
    """Weight decay of a run from a normalised decay: ``λ = λ_norm·√(b/(B·T))``.

    The longer a run, the weaker its best decay. The best ``λ_norm``, the decay of a run of one
    step, depends on the length much less.

    Parameters
    ----------
    lambda_norm : float
        ``λ_norm``, finite and at least 0.
    batch_size : int
        ``b``, samples per step; from 1 to `samples`.
    samples : int
        ``B``, samples in the training set.
    epochs : float
        ``T``, epochs of the run; with warm restarts, of the current cycle. Finite and above 0.

    Returns
    -------
    float
        The paper's ``λ``, which is multiplied by the schedule ``η_t`` but not by the learning rate:
        the `weight_decay` for ``independent=True``. For the default, ``lr·weight_decay``, divide it
        by the learning rate without the schedule.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a number or out of range.

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
    """Time constant of a weight decay; ``str`` gives a sentence. See `averaging_time`."""

    steps: float
    """Time constant in steps; infinite without decay."""
    epochs: float | None = None
    """The same in epochs; None if the size of an epoch is unknown."""

    def __str__(self) -> str:
        if math.isinf(self.steps):
            return "no decay: weights are the sum of the updates of all steps"
        epochs = "" if self.epochs is None else f" ({_about(self.epochs)} epochs)"
        return (
            f"weights average the updates of about the last {_about(self.steps)} steps{epochs}; "
            "older updates fade"
        )


def averaging_time(
    lr: Real,
    weight_decay: Real,
    *,
    independent: bool = False,
    batch_size: int | None = None,
    samples: int | None = None,
) -> AveragingTime:
    """Time constant of decoupled weight decay, which makes weights an average of past updates.

    With ``d = lr·weight_decay`` the step ``p <- p - (d·p + lr·u)`` is
    ``p <- (1-d)·p + d·(-u/weight_decay)``: an exponential moving average of the scaled updates. An
    update from `k` steps ago has weight ``(1-d)^k``, so the average covers about the last ``1/d``
    steps. A time in epochs that suits a small model and little data also suits larger ones. Choose
    it not much below one epoch, so that the average includes all samples, and not much above the
    length of the run, so that the first updates fade.

    Parameters
    ----------
    lr, weight_decay : float
        As for `thalweg.AdamW`, but without callables: of a schedule, its value at one step.
    independent : bool, default False
        As for `thalweg.AdamW`: ``d = weight_decay``.
    batch_size, samples : int, optional
        Samples per step and in the training set, for the time in epochs; both or neither.

    Returns
    -------
    AveragingTime
        ``steps`` and ``epochs``; ``str`` gives a sentence.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a number or out of range, or if ``d`` is above 1: weights would change
        sign instead of being averaged.

    Notes
    -----
    The inverse is ``weight_decay = 1/(lr·steps)``.

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
    older updates fade
    >>> time.steps, time.epochs
    (10000.0, 25.6)
    >>> print(thalweg.averaging_time(1e-3, 0.0))
    no decay: weights are the sum of the updates of all steps
    """
    lr = _core.check_hyperparameter("lr", lr)
    weight_decay = _core.check_hyperparameter("weight_decay", weight_decay)
    rate = weight_decay if independent else lr * weight_decay
    if rate > 1.0:
        factor = "weight_decay" if independent else "lr * weight_decay"
        raise ValueError(f"{factor} must be at most 1 for weights to be an average, got {rate}")
    steps = 1.0 / rate if rate > 0.0 else math.inf
    if (batch_size is None) != (samples is None):
        raise TypeError("batch_size and samples must be passed together; they define an epoch")
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
    """`value` as text with three significant digits."""
    return f"{float(f'{value:.3g}'):,.10g}"

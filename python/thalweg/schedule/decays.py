"""Schedules that fall once from a peak."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from thalweg._core import half_cosine, power
from thalweg.schedule import checks
from thalweg.schedule.base import Schedule, Warmed
from thalweg.schedule.curve import mix, remaining


@dataclass(frozen=True, repr=False)
class constant(Schedule):
    """The same value at every step, after a warmup.

    ``value·step/warmup`` up to step ``warmup``, then ``value``.

    Parameters
    ----------
    value : float, default 1.0
        The value.
    warmup : int, default 0
        The first step with this value; 0 counts as 1.

    Examples
    --------
    >>> from thalweg import schedule
    >>> s = schedule.constant(0.5, warmup=4)
    >>> [s(step) for step in (1, 2, 3, 4, 5)]
    [0.125, 0.25, 0.375, 0.5, 0.5]
    """

    value: float = 1.0
    warmup: int = 0

    def __post_init__(self) -> None:
        checks.number(self, "value")
        checks.whole(self, "warmup", 0)

    def _at(self, step: int) -> float:
        return self.value * (step / self.warmup) if step < self.warmup else self.value


@dataclass(frozen=True, repr=False)
class linear(Warmed):
    """A straight line down.

    ``final + (peak - final)·(1 - progress)``, where ``progress`` goes from 0 at the peak to 1 at
    step ``total``.

    Parameters
    ----------
    total : int
        The first step with `final`, at least 2.
    warmup : int, default 0
        The step with `peak`; before it, values rise from 0 in proportion to the step.
    peak : float, default 1.0
        Value at step ``max(warmup, 1)``.
    final : float, default 0.0
        Value from step `total` on. It may be above the peak.

    Examples
    --------
    >>> from thalweg import schedule
    >>> s = schedule.linear(total=6, warmup=2)
    >>> [s(step) for step in range(1, 8)]
    [0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    total: int
    _: KW_ONLY
    warmup: int = 0
    peak: float = 1.0
    final: float = 0.0

    def __post_init__(self) -> None:
        checks.span(self)
        checks.number(self, "peak")
        checks.number(self, "final")

    def _after(self, steps: int) -> float:
        length = self.total - (self.warmup or 1)
        if steps >= length:
            return self.final
        return mix(self.final, self.peak, (length - steps) / length)


@dataclass(frozen=True, repr=False)
class polynomial(Warmed):
    """A power of the remaining share of the steps.

    ``final + (peak - final)·(1 - progress)^power``, where ``progress`` goes from 0 at the peak to 1
    at step ``total``.

    Parameters
    ----------
    total : int
        The first step with `final`, at least 2.
    power : float
        Above 0; 1 is a straight line.
    warmup, peak, final
        As in `linear`.

    Examples
    --------
    >>> from thalweg import schedule
    >>> s = schedule.polynomial(total=5, power=2)
    >>> [s(step) for step in range(1, 6)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """

    total: int
    power: float
    _: KW_ONLY
    warmup: int = 0
    peak: float = 1.0
    final: float = 0.0

    def __post_init__(self) -> None:
        checks.span(self)
        checks.number(self, "power", 0, above=True)
        checks.number(self, "peak")
        checks.number(self, "final")

    def _after(self, steps: int) -> float:
        length = self.total - (self.warmup or 1)
        if steps >= length:
            return self.final
        return mix(self.final, self.peak, power((length - steps) / length, self.power))


@dataclass(frozen=True, repr=False)
class cosine(Warmed):
    """Half a cosine down: flat at both ends, steepest in the middle.

    ``final + (peak - final)·((1 + cos(π·progress))/2)^exponent``, where ``progress`` goes from 0 at
    the peak to 1 at step ``total``.

    Parameters
    ----------
    total : int
        The first step with `final`, at least 2.
    warmup, peak, final
        As in `linear`.
    exponent : float, default 1.0
        Exponent of the half cosine, above 0, as in optax.

    Notes
    -----
    torch's CosineAnnealingLR rises again after ``T_max``; this schedule stays at `final`.

    Examples
    --------
    >>> from thalweg import schedule
    >>> s = schedule.cosine(total=1000, warmup=100)
    >>> s(50), s(100), s(550), s(1000), s(10**12)
    (0.5, 1.0, 0.5, 0.0, 0.0)
    """

    total: int
    _: KW_ONLY
    warmup: int = 0
    peak: float = 1.0
    final: float = 0.0
    exponent: float = 1.0

    def __post_init__(self) -> None:
        checks.span(self)
        checks.number(self, "peak")
        checks.number(self, "final")
        checks.number(self, "exponent", 0, above=True)

    def _after(self, steps: int) -> float:
        length = self.total - (self.warmup or 1)
        if steps >= length:
            return self.final
        left = half_cosine(steps / length, (length - steps) / length)
        if self.exponent != 1.0:
            left = power(left, self.exponent)
        return mix(self.final, self.peak, left)


@dataclass(frozen=True, repr=False)
class exponential(Warmed):
    """Multiplication by a constant factor every `steps` steps.

    ``peak·rate^(steps since the peak / steps)``; ``staircase`` rounds the exponent down.

    Parameters
    ----------
    rate : float
        The factor, above 0; below 1 the schedule decays.
    steps : int, default 1
        Number of steps per factor.
    staircase : bool, default False
        True applies the factor at once, after every `steps` steps.
    warmup, peak
        As in `linear`.
    final : float or None
        Bound of the value: at most the peak for a rate below 1, otherwise at least the peak.

    Examples
    --------
    >>> from thalweg import schedule
    >>> s = schedule.exponential(0.5, peak=8.0, final=1.0)
    >>> [s(step) for step in range(1, 7)]
    [8.0, 4.0, 2.0, 1.0, 1.0, 1.0]
    >>> s = schedule.exponential(0.5, steps=2, staircase=True)
    >>> [s(step) for step in range(1, 7)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """

    rate: float
    _: KW_ONLY
    steps: int = 1
    staircase: bool = False
    warmup: int = 0
    peak: float = 1.0
    final: float | None = None

    def __post_init__(self) -> None:
        checks.number(self, "rate", 0, above=True)
        checks.whole(self, "steps", 1)
        checks.flag(self, "staircase")
        checks.whole(self, "warmup", 0)
        checks.number(self, "peak")
        if self.final is not None:
            decays = self.rate < 1
            low, high = (-checks.LARGEST, self.peak) if decays else (self.peak, checks.LARGEST)
            checks.number(self, "final", low, high)

    def _after(self, steps: int) -> float:
        factors = steps // self.steps if self.staircase else steps / self.steps
        value = self.peak * power(self.rate, factors)
        if self.final is None:
            return value
        return max(value, self.final) if self.rate < 1 else min(value, self.final)


@dataclass(frozen=True, repr=False)
class inverse_sqrt(Warmed):
    """Decay with the square root of the step, without end.

    ``peak·√(max(warmup, 1)/step)``, the schedule of the original Transformer.

    Parameters
    ----------
    warmup, peak
        As in `linear`.

    Examples
    --------
    >>> from thalweg import schedule
    >>> s = schedule.inverse_sqrt(warmup=100)
    >>> s(50), s(100), s(400), s(10_000)
    (0.5, 1.0, 0.5, 0.1)
    """

    _: KW_ONLY
    warmup: int = 0
    peak: float = 1.0

    def __post_init__(self) -> None:
        checks.whole(self, "warmup", 0)
        checks.number(self, "peak")

    def _after(self, steps: int) -> float:
        start = self.warmup or 1
        return self.peak * math.sqrt(start / (start + steps))


@dataclass(frozen=True, repr=False)
class warmup_stable_decay(Warmed):
    """Warmup, constant phase and decay; a run's length can stay open until the decay begins.

    ``peak`` from step ``warmup`` to step ``total - decay``, then down to ``final`` at step
    ``total`` by ``final + (peak - final)·left``, where ``left`` is ``1 - progress`` (``linear``),
    ``(1 + cos(π·progress))/2`` (``cosine``) or ``1 - √progress`` (``sqrt``) of the last ``decay``
    steps.

    Parameters
    ----------
    total : int
        The first step with `final`.
    warmup : int
        The first step with `peak`; 0 counts as 1.
    decay : int
        Number of steps of the decay, at least 1; it begins after the warmup.
    peak, final
        As in `linear`.
    shape : {"linear", "cosine", "sqrt"}, default "linear"
        Shape of the decay.

    Examples
    --------
    >>> from thalweg import schedule
    >>> s = schedule.warmup_stable_decay(total=10, warmup=2, decay=4)
    >>> [s(step) for step in range(1, 11)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """

    total: int
    _: KW_ONLY
    warmup: int
    decay: int
    peak: float = 1.0
    final: float = 0.0
    shape: Literal["linear", "cosine", "sqrt"] = "linear"

    def __post_init__(self) -> None:
        checks.span(self)
        checks.whole(self, "decay", 1)
        checks.number(self, "peak")
        checks.number(self, "final")
        checks.choice(self, "shape", "linear", "cosine", "sqrt")
        if (self.warmup or 1) + self.decay > self.total:
            raise ValueError(
                "the sum of warmup (at least 1) and decay must be at most total, got "
                f"warmup={self.warmup}, decay={self.decay}, total={self.total}"
            )

    def _after(self, steps: int) -> float:
        left = self.total - (self.warmup or 1) - steps
        if left <= 0:
            return self.final
        if left >= self.decay:
            return self.peak
        done = (self.decay - left) / self.decay
        return mix(self.final, self.peak, remaining(self.shape, done, left / self.decay))

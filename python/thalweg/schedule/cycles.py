"""Schedules that rise and fall: restarts, triangles, one cycle."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Literal

from thalweg._core import half_cosine, power
from thalweg.schedule import checks
from thalweg.schedule.base import Schedule, Warmed
from thalweg.schedule.curve import interpolate, mix


@dataclass(frozen=True, repr=False)
class cosine_restarts(Warmed):
    """Half a cosine down, with warm restarts at the top: SGDR of Loshchilov and Hutter.

    ``final + (top - final)·(1 + cos(π·T_cur/T_i))/2``, where ``T_cur`` is the number of steps since
    the last restart, ``T_i = T_0·T_mult^i`` the length of cycle ``i`` from 0, and
    ``top = final + (peak - final)·decay^i``.

    Parameters
    ----------
    T_0 : float
        Steps of the first cycle, at least 1e-9; with a fraction, restarts may fall between steps.
    T_mult : int, default 1
        Length of each cycle divided by that of the previous one.
    warmup, peak
        As in `linear`; the first cycle starts with the peak.
    final : float, default 0.0
        Limit at the end of a cycle. The step that would reach it is the restart instead.
    decay : float, default 1.0
        Factor on the height of the top at every restart, above 0 and at most 1.

    Examples
    --------
    >>> from thalweg import schedule
    >>> s = schedule.cosine_restarts(2, T_mult=2, decay=0.5)
    >>> [round(s(step), 3) for step in range(1, 9)]
    [1.0, 0.5, 0.5, 0.427, 0.25, 0.073, 0.25, 0.24]
    """

    T_0: float
    T_mult: int = 1
    _: KW_ONLY
    warmup: int = 0
    peak: float = 1.0
    final: float = 0.0
    decay: float = 1.0

    def __post_init__(self) -> None:
        checks.number(self, "T_0", 1e-9)
        checks.whole(self, "T_mult", 1)
        checks.whole(self, "warmup", 0)
        checks.number(self, "peak")
        checks.number(self, "final")
        checks.number(self, "decay", 0, 1, above=True)

    def _after(self, steps: int) -> float:
        cycle, position, length = self._place(steps)
        left = half_cosine(position / length, (length - position) / length)
        top = self.peak
        if self.decay != 1.0:
            top = mix(self.final, top, power(self.decay, cycle))
        return mix(self.final, top, left)

    def _place(self, steps: int) -> tuple[int, int, int]:
        """Number of the cycle, position in it and its length, exact in a common unit."""
        # T_0 is length/unit. In units of 1/unit all quantities are integers, exact for any step.
        length, unit = self.T_0.as_integer_ratio()
        position = steps * unit
        if self.T_mult == 1:
            cycle, position = divmod(position, length)
            return cycle, position, length
        cycle = 0
        while position >= length:
            position -= length
            length *= self.T_mult
            cycle += 1
        return cycle, position, length


@dataclass(frozen=True, repr=False)
class triangular(Schedule):
    """Repeated straight lines up and down, as in torch's CyclicLR.

    From ``start`` at step 1 to ``peak`` after ``up`` steps, back after ``down`` more steps, and so
    on; the top of cycle ``i`` from 0 is ``start + (peak - start)·decay^i``.

    Parameters
    ----------
    start : float
        Value at step 1 and between the cycles.
    peak : float
        Value at the top of the first cycle. It may be below `start`, for a momentum that mirrors a
        learning rate.
    up : int
        Steps from start to peak, at least 1.
    down : int or None
        Steps from peak to start; equal to `up` if None.
    decay : float, default 1.0
        Factor on the height of the triangle after each cycle, above 0 and at most 1; 0.5 is torch's
        ``triangular2``.

    Examples
    --------
    >>> from thalweg import schedule
    >>> s = schedule.triangular(1.0, 5.0, up=4, down=2, decay=0.5)
    >>> [s(step) for step in range(1, 14)]
    [1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 1.0, 1.5, 2.0, 2.5, 3.0, 2.0, 1.0]
    """

    start: float
    peak: float
    up: int
    down: int | None = None
    decay: float = 1.0

    def __post_init__(self) -> None:
        checks.number(self, "start")
        checks.number(self, "peak")
        checks.whole(self, "up", 1)
        if self.down is not None:
            checks.whole(self, "down", 1)
        checks.number(self, "decay", 0, 1, above=True)

    def _at(self, step: int) -> float:
        up, down = self.up, self.down or self.up
        cycle, position = divmod(step - 1, up + down)
        top = mix(self.start, self.peak, power(self.decay, cycle))
        share = position / up if position <= up else (up + down - position) / down
        return mix(self.start, top, share)


class _Phased(Schedule):
    """The phases that `one_cycle` and its momentum share."""

    total: int
    pct_start: float
    shape: Literal["linear", "cosine"]
    three_phase: bool
    _knots: tuple[tuple[float, float], ...]

    def _check_phases(self) -> None:
        checks.whole(self, "total", 2)
        checks.number(self, "pct_start", 0, 1, above=True, below=True)
        checks.choice(self, "shape", "linear", "cosine")
        checks.flag(self, "three_phase")
        ends = self._ends()
        if ends[0] < 0 or any(one >= other for one, other in pairwise(ends)):
            raise ValueError(
                "the phases of one_cycle must end in order, got ends at steps "
                f"{', '.join(f'{1 + end:g}' for end in ends)}"
            )

    def _ends(self) -> tuple[float, ...]:
        """Ends of the phases in 0-based steps, with the float operations of torch."""
        first = self.pct_start * self.total
        last = float(self.total - 1)
        return (first - 1, 2 * first - 2, last) if self.three_phase else (first - 1, last)

    def _go_through(self, *values: float) -> None:
        """Keep the knots of the curve: `values` at step 1 and at the end of each phase."""
        checks.keep(self, "_knots", tuple(zip((0.0, *self._ends()), values, strict=True)))

    def _at(self, step: int) -> float:
        return interpolate(self._knots, step - 1, self.shape)


@dataclass(frozen=True, repr=False)
class one_cycle(_Phased):
    """One rise, and one fall to far below the start: Smith's policy, as in torch's OneCycleLR.

    From ``peak/div`` at step 1 to ``peak`` at step ``pct_start·total`` (between two steps if that
    is not a whole number), and down to ``peak/div/final_div`` at step ``total``.

    Parameters
    ----------
    total : int
        The first step with the final value, at least 2.
    peak : float, default 1.0
        The highest value.
    pct_start : float, default 0.3
        Share of the rise in the steps; ``pct_start·total`` must be at least 1.
    div : float, default 25.0
        Ratio of peak to start, above 0.
    final_div : float, default 1e4
        Ratio of start to final value, above 0.
    shape : {"cosine", "linear"}, default "cosine"
        Shape of rise and fall.
    three_phase : bool, default False
        True falls to the start first, as steeply as the rise, and from there to the final value.

    Examples
    --------
    >>> from thalweg import schedule
    >>> s = schedule.one_cycle(total=10, peak=1.0, shape="linear", final_div=4.0)
    >>> [round(s(step), 3) for step in range(1, 11)]
    [0.04, 0.52, 1.0, 0.859, 0.717, 0.576, 0.434, 0.293, 0.151, 0.01]
    """

    total: int
    _: KW_ONLY
    peak: float = 1.0
    pct_start: float = 0.3
    div: float = 25.0
    final_div: float = 1e4
    shape: Literal["linear", "cosine"] = "cosine"
    three_phase: bool = False

    def __post_init__(self) -> None:
        checks.number(self, "peak")
        checks.number(self, "div", 0, above=True)
        checks.number(self, "final_div", 0, above=True)
        self._check_phases()
        start = checks.in_range("peak / div", self.peak / self.div)
        final = checks.in_range("peak / div / final_div", start / self.final_div)
        middle = (start,) if self.three_phase else ()
        self._go_through(start, self.peak, *middle, final)

    def momentum(self, low: float = 0.85, high: float = 0.95) -> one_cycle_momentum:
        """The mirrored momentum, low where the learning rate is high.

        Parameters
        ----------
        low : float, default 0.85
            Value at the peak of the learning rate.
        high : float, default 0.95
            Value at both ends.

        Returns
        -------
        one_cycle_momentum
            For ``momentum`` of SGD, or a beta of Adam.

        Examples
        --------
        >>> from thalweg import schedule
        >>> lr = schedule.one_cycle(total=1000)
        >>> beta = lr.momentum()
        >>> beta
        one_cycle_momentum(total=1000)
        >>> beta(1), beta(300), beta(1000)
        (0.95, 0.85, 0.95)
        """
        return one_cycle_momentum(
            self.total,
            low=low,
            high=high,
            pct_start=self.pct_start,
            shape=self.shape,
            three_phase=self.three_phase,
        )


@dataclass(frozen=True, repr=False)
class one_cycle_momentum(_Phased):
    """The momentum that mirrors `one_cycle`; see `one_cycle.momentum`.

    ``high`` at step 1, ``low`` at step ``pct_start·total``, and ``high`` again from the end of the
    next phase on.

    Parameters
    ----------
    total, pct_start, shape, three_phase
        As in `one_cycle`.
    low : float, default 0.85
        Value at the peak of the learning rate.
    high : float, default 0.95
        Value at both ends.

    Examples
    --------
    >>> from thalweg import schedule
    >>> s = schedule.one_cycle_momentum(total=10, shape="linear", low=0.8, high=1.0)
    >>> [round(s(step), 3) for step in (1, 2, 3, 10)]
    [1.0, 0.9, 0.8, 1.0]
    """

    total: int
    _: KW_ONLY
    low: float = 0.85
    high: float = 0.95
    pct_start: float = 0.3
    shape: Literal["linear", "cosine"] = "cosine"
    three_phase: bool = False

    def __post_init__(self) -> None:
        checks.number(self, "low")
        checks.number(self, "high")
        self._check_phases()
        middle = (self.high,) if self.three_phase else ()
        self._go_through(self.high, self.low, *middle, self.high)

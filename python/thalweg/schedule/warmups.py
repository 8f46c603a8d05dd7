"""Warmups other than the linear one, which most schedules have as an option."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

from thalweg._core import half_cosine, power
from thalweg.schedule import checks
from thalweg.schedule.base import Schedule, only_schedule, unchecked
from thalweg.schedule.curve import mix


@dataclass(frozen=True, repr=False)
class warmup(Schedule):
    """A warmup in front of a schedule.

    From ``start·s(1)`` at a virtual step 0 to ``s(1)`` at step ``steps``, which is step 1 of the
    schedule ``s``. With ``x = step/steps`` the share of the rise is ``x`` (``linear``) or
    ``(1 - cos(π·x))/2`` (``cosine``); ``exponential`` multiplies ``s(1)`` by ``start^(1-x)``;
    ``constant`` stays at ``start·s(1)`` before step ``steps``.

    Parameters
    ----------
    into : Schedule
        The schedule ``s`` after the warmup; its first value is the height of the warmup.
    steps : int
        The first step of `into`, at least 1.
    kind : {"linear", "cosine", "exponential", "constant"}, default "linear"
        Shape of the rise.
    start : float, default 0.0
        Share of the height at the beginning, from 0 to 1; above 0 for ``exponential``.

    Notes
    -----
    ``warmup(cosine(total=N-W+1), steps=W)`` equals ``cosine(total=N, warmup=W)`` at every step.

    Examples
    --------
    >>> from thalweg import schedule
    >>> s = schedule.warmup(schedule.constant(0.5), steps=4, kind="exponential", start=0.0625)
    >>> [s(step) for step in range(1, 6)]
    [0.0625, 0.125, 0.25, 0.5, 0.5]
    """

    into: Schedule
    _: KW_ONLY
    steps: int
    kind: Literal["linear", "cosine", "exponential", "constant"] = "linear"
    start: float = 0.0

    def __post_init__(self) -> None:
        only_schedule("into", self.into)
        checks.whole(self, "steps", 1)
        checks.choice(self, "kind", "linear", "cosine", "exponential", "constant")
        checks.number(self, "start", 0, 1, above=self.kind == "exponential")

    def _at(self, step: int) -> float:
        if step >= self.steps:
            return unchecked(self.into)(step - self.steps + 1)
        height = unchecked(self.into)(1)
        done, left = step / self.steps, (self.steps - step) / self.steps
        if self.kind == "exponential":
            return height * power(self.start, left)
        if self.kind == "constant":
            done = 0.0
        elif self.kind == "cosine":
            done = half_cosine(left, done)
        return mix(self.start * height, height, done)

    def __repr__(self) -> str:
        return super().__repr__().replace("into=", "", 1)

"""Warmups of other kinds than the straight one that most schedules have as an option."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

from thalweg._core import half_cosine, power
from thalweg.schedule import checks
from thalweg.schedule.base import Schedule, only_schedule, unchecked
from thalweg.schedule.curve import mix


@dataclass(frozen=True, repr=False)
class warmup(Schedule):
    """Any warmup in front of any schedule.

    From ``start·s(1)``, where step 0 would be, to ``s(1)`` at step ``steps``, which is step 1 of
    the schedule ``s`` it leads into. With ``x = step/steps`` the way between is ``x`` (``linear``),
    ``(1 - cos(π·x))/2`` (``cosine``), or the factor ``start^(1-x)`` on ``s(1)`` (``exponential``);
    ``constant`` stays at ``start·s(1)`` until step ``steps``.

    Parameters
    ----------
    into : Schedule
        What comes after, and sets the height.
    steps : int
        The step that is the schedule's first, at least 1; from there on it runs undisturbed.
    kind : {"linear", "cosine", "exponential", "constant"}
        How it rises.
    start : float, default 0.0
        Share of the height to begin from, from 0 to 1; above 0 for ``exponential``.

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

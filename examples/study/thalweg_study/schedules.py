"""The multipliers of the learning rate that are compared, over ``total`` steps, 1 at their peak."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg import schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalweg.schedule import Schedule

MOMENTUM = 0.9


def _step(total: int) -> Schedule:
    """Return the drop to a tenth after half of the steps, and again after three quarters."""
    return schedule.piecewise_constant({1: 1.0, 1 + total // 2: 0.1, 1 + total * 3 // 4: 0.01})


def _restarts(total: int) -> Schedule:
    """Return four cycles, each twice as long as the one before."""
    return schedule.cosine_restarts(total / 15, T_mult=2)


SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "fixed": lambda _: schedule.constant(),
    "step": _step,
    "cosine": schedule.cosine,
    "restarts": _restarts,
    "one-cycle": schedule.one_cycle,
}


def momentum(eta: Schedule) -> float | Schedule:
    """Return the momentum, or β1 of Adam, that goes with a multiplier.

    It is the usual one, except that one cycle of the learning rate has its mirror image.
    """
    return eta.momentum() if isinstance(eta, schedule.one_cycle) else MOMENTUM

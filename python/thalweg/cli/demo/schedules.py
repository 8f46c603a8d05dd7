"""The schedules of the demo: factors on the peak of the learning rate.

Over twelve seeds, no schedule raises the mean test accuracy of an optimizer by half a test digit or
lowers it by two digits. So the default is the simplest one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg.schedule import (
    Schedule,
    constant,
    cosine,
    cosine_restarts,
    inverse_sqrt,
    linear,
    one_cycle,
    warmup_stable_decay,
)

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT = "constant"
SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    DEFAULT: lambda _: constant(),
    "linear": lambda total: linear(total, warmup=total // 20),
    "cosine": lambda total: cosine(total, warmup=total // 20),
    "restarts": lambda total: cosine_restarts(total / 7, T_mult=2),
    "inverse-sqrt": lambda total: inverse_sqrt(warmup=total // 20),
    "stable": lambda total: warmup_stable_decay(total, warmup=total // 20, decay=total // 5),
    "one-cycle": one_cycle,
}
"""Functions from the total number of steps to a schedule, by name."""

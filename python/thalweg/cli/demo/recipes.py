"""The optimizers of the demo and their defaults.

The defaults are the best of one small grid of learning rates and decays for each, by mean test
accuracy over twelve seeds; where means were within a tenth of a test digit, by the worst seed. They
end within a test digit of each other: the demo shows that all three work, and ranks none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import thalweg

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalweg.cli.demo.network import Parameters
    from thalweg.schedule import Schedule


@dataclass(frozen=True)
class Recipe:
    """An optimizer of the demo: its name, its defaults, and how it is built."""

    label: str
    lr: float
    decay: float
    build: Callable[[Parameters, Schedule, float], thalweg.Optimizer]


def _adamw(parameters: Parameters, lr: Schedule, decay: float) -> thalweg.Optimizer:
    return thalweg.AdamW(parameters, lr, weight_decay=decay, groups=[thalweg.no_decay()])


def _adam(parameters: Parameters, lr: Schedule, decay: float) -> thalweg.Optimizer:
    return thalweg.Adam(parameters, lr, l2=decay, groups=[thalweg.no_decay()])


def _sgd(parameters: Parameters, lr: Schedule, decay: float) -> thalweg.Optimizer:
    return thalweg.SGD(parameters, lr, momentum=0.9, l2=decay, groups=[thalweg.no_decay()])


RECIPES = {
    "adamw": Recipe("AdamW", 2e-3, 0.1, _adamw),
    "adam": Recipe("Adam + L2", 1e-3, 1e-4, _adam),
    "sgd": Recipe("SGD + momentum", 0.03, 1e-3, _sgd),
}

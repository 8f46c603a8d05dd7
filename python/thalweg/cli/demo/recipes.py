"""The optimizers of the demo and their defaults.

The defaults are the best of a small grid of learning rates and decays for each optimizer, by mean
test accuracy over twelve seeds. Means within a tenth of a test digit were compared by their worst
seed. The three results differ by less than one test digit: the demo shows that all of them work,
and does not rank them.
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
    """An optimizer of the demo: name, defaults and constructor."""

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

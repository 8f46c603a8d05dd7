"""The runs: budgets and decays on some seeds, and decays carried to the longest on others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thalweg_study.training import Training

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thalweg_study.claim import Setting
    from thalweg_study.statistics import Floats
    from thalweg_study.task import Record

LR = 0.01
SIZE = 100
BATCH_SIZE = 32
STEPS_AN_EPOCH = 4

KEPT = ("λ", "λ_norm", "λ·steps", "nothing")
"""Quantities to keep when a run gets longer; if nothing is kept, the decay is tuned anew."""

MEASURES = {
    "validation_error": "validation error",
    "test_error": "test error",
    "validation_loss": "validation loss",
}
"""Measures in which a decay may be best; the first is judged."""


@dataclass(frozen=True)
class Scale:
    """Size of the experiment."""

    budgets: tuple[int, ...]
    """Epochs of a run."""

    decays: tuple[float, ...]
    lrs: tuple[float, ...]
    """The first is judged; the others are shown beside it."""

    tuning_seeds: int
    seeds: int


def _decays(low: float, high: float) -> tuple[float, ...]:
    """Return four decays a power of ten, between the powers ``low`` and ``high``."""
    return tuple(float(f"{10**power:.3g}") for power in np.arange(low, high + 0.125, 0.25))


QUICK = Scale((20, 40, 80, 160), _decays(-3.5, -1.25), (LR,), tuning_seeds=8, seeds=12)
FULL = Scale(
    (20, 40, 80, 160, 320), _decays(-4, -1.25), (LR, LR / 2, LR * 2), tuning_seeds=24, seeds=40
)


def plan(setting: Setting) -> list[Training]:
    """Return all tasks; those that compare stand in with a decay."""
    scale = scale_of(setting)
    middle = dict.fromkeys(KEPT, scale.decays[len(scale.decays) // 2])
    return [
        *tuning_tasks(setting, scale),
        *comparing_tasks(setting, scale, middle),
    ]


def scale_of(setting: Setting) -> Scale:
    """Return how much is run in a setting."""
    return FULL if setting.thorough else QUICK


def tuning_tasks(setting: Setting, scale: Scale) -> list[Training]:
    """Return the runs that show which decay is best."""
    return [
        _training(setting, lr, decay, budget, seed)
        for lr in scale.lrs
        for budget in scale.budgets
        for decay in scale.decays
        for seed in range(scale.tuning_seeds)
    ]


def comparing_tasks(setting: Setting, scale: Scale, decays: Mapping[str, float]) -> list[Training]:
    """Return the longest runs, with the decay that follows from the quantity kept."""
    first = scale.tuning_seeds
    return [
        _training(setting, LR, decays[kept], scale.budgets[-1], seed)
        for kept in KEPT
        for seed in range(first, first + scale.seeds)
    ]


def _training(setting: Setting, lr: float, decay: float, budget: int, seed: int) -> Training:
    return Training(
        data=setting.data,
        model="mlp",
        method="adamw-independent",
        lr=lr,
        decay=decay,
        epochs=budget,
        seed=seed,
        size=SIZE,
        batch_size=BATCH_SIZE,
    )


class Grid:
    """Results of the tuning seeds, over budgets and decays."""

    def __init__(self, scale: Scale, tasks: Sequence[Training], records: list[Record]) -> None:
        self.budgets = scale.budgets
        self.decays = scale.decays
        self.lrs = scale.lrs
        self.seeds = scale.tuning_seeds
        self.steps = tuple(STEPS_AN_EPOCH * budget for budget in scale.budgets)
        shape = (len(scale.budgets), len(scale.decays), scale.tuning_seeds)
        self._found = {
            (lr, measure): np.array(
                [
                    record[measure]
                    for task, record in zip(tasks, records, strict=True)
                    if task.lr == lr
                ]
            ).reshape(shape)
            for lr in scale.lrs
            for measure in MEASURES
        }

    def errors(self, measure: str = "validation_error", lr: float = LR) -> Floats:
        """Return a measure, (budgets, decays, seeds)."""
        return self._found[lr, measure]


def gather(scale: Scale, records: list[Record]) -> dict[str, Floats]:
    """Return the test errors of the longest runs, one a seed, by what was kept."""
    errors = np.array([record["test_error"] for record in records])
    return dict(zip(KEPT, errors.reshape(len(KEPT), scale.seeds), strict=True))


def method(setting: Setting, scale: Scale) -> str:
    """Return how it was done."""
    budgets = ", ".join(map(str, scale.budgets))
    others = " and ".join(f"{lr:g}" for lr in scale.lrs[1:])
    beside = f" What other learning rates say ({others}) stands beside it." if others else ""
    return (
        "AdamW with independent decay, the paper's: both learning rate and decay follow a cosine "
        f"to zero. The multilayer perceptron learns {SIZE} pictures of {setting.data}, "
        f"{STEPS_AN_EPOCH} steps of up to {BATCH_SIZE} pictures an epoch, in runs of {budgets} "
        "epochs. So few, because an earlier small study found that with 300 pictures of digits the "
        f"basin is too flat to place its middle; the learning rate, {LR:g}, is the one of three "
        f"that with {SIZE} of digits was best at most lengths by validation error."
        f"{beside} {len(scale.decays)} decays from {scale.decays[0]:g} to "
        f"{scale.decays[-1]:g}, four a power of ten, are run with {scale.tuning_seeds} seeds. "
        "The best decay of a budget is a mean of the logarithms of all, with weights that fall by "
        "a factor of e for every 2 % that the mean validation error is above the least: where the "
        "basin is flat this is the middle of what was tried of it, and it does not jump as the "
        "lowest of noisy errors does. The slope is that of the straight line through the "
        "logarithms of best decay and steps; its interval of 95 % is of the bootstrap over seeds. "
        "Then the best decay "
        f"of the shortest budget is carried to the longest, in three ways, beside that of the "
        f"longest itself, with {scale.seeds} other seeds, whose test errors are compared seed by "
        "seed."
    )

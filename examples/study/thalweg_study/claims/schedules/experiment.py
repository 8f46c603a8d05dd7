"""The runs: budgets and learning rates on some seeds to choose by, the best on others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thalweg_study.training import CHANCE, Training

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thalweg_study.claim import Setting
    from thalweg_study.statistics import Floats
    from thalweg_study.task import Record

LABELS = {
    "fixed": "fixed",
    "step": "step drop",
    "cosine": "cosine",
    "restarts": "warm restarts",
    "one-cycle": "one-cycle",
}
"""Of the schedules, in the order of the report."""

DECAY = 0.3
FIRST_CYCLE = 5
"""Epochs, which are those of the shortest runs too."""

CYCLES = (FIRST_CYCLE, 3 * FIRST_CYCLE, 7 * FIRST_CYCLE, 15 * FIRST_CYCLE)
"""The epochs at which cycles of the restarts end."""

LONGEST = CYCLES[-1]


@dataclass(frozen=True)
class Scale:
    """How much is run."""

    budgets: tuple[int, ...]
    """Epochs of a run, with all of `CYCLES` among them."""

    lrs: tuple[float, ...]
    tuning_seeds: int
    seeds: int
    looks: int
    """At the longest runs that are compared; every fifth epoch is among them."""


QUICK = Scale(CYCLES, (0.0025, 0.005, 0.01, 0.02, 0.04), tuning_seeds=3, seeds=10, looks=15)
FULL = Scale(
    (5, 10, 15, 25, 35, 50, LONGEST),
    (0.0025, 0.005, 0.01, 0.02, 0.04, 0.08),
    tuning_seeds=12,
    seeds=40,
    looks=LONGEST,
)


def plan(setting: Setting) -> list[Training]:
    """Return all tasks; those that compare stand in with a learning rate."""
    scale = scale_of(setting)
    tuning = tuning_tasks(setting, scale)
    middle = scale.lrs[len(scale.lrs) // 2]
    return [*tuning, *comparing_tasks(setting, scale, lambda _, __: middle)]


def scale_of(setting: Setting) -> Scale:
    """Return how much is run in a setting."""
    return FULL if setting.thorough else QUICK


def budgets_of(schedule: str, scale: Scale) -> tuple[int, ...]:
    """Return the lengths of runs; a run with restarts is its own anytime result, and done once."""
    return (LONGEST,) if schedule == "restarts" else scale.budgets


def tuning_tasks(setting: Setting, scale: Scale) -> list[Training]:
    """Return the runs that choose learning rates."""
    return [
        _training(setting, schedule, budget, lr, seed)
        for schedule in LABELS
        for budget in budgets_of(schedule, scale)
        for lr in scale.lrs
        for seed in range(scale.tuning_seeds)
    ]


def comparing_tasks(
    setting: Setting, scale: Scale, lr: Callable[[str, int], float]
) -> list[Training]:
    """Return the runs that are compared, with the learning rate of a schedule and a budget."""
    first = scale.tuning_seeds
    return [
        _training(
            setting,
            schedule,
            budget,
            lr(schedule, budget),
            seed,
            looks=scale.looks if budget == LONGEST else 0,
        )
        for schedule in LABELS
        for budget in budgets_of(schedule, scale)
        for seed in range(first, first + scale.seeds)
    ]


def _training(
    setting: Setting, schedule: str, budget: int, lr: float, seed: int, *, looks: int = 0
) -> Training:
    return Training(
        setting.data, "mlp", "adamw", lr, DECAY, budget, seed, schedule=schedule, looks=looks
    )


class Tuning:
    """The validation errors that learning rates are chosen by, means over the tuning seeds."""

    def __init__(self, scale: Scale, tasks: Sequence[Training], records: list[Record]) -> None:
        self.lrs = scale.lrs
        found: dict[tuple[str, int, float], list[float]] = {}
        for task, record in zip(tasks, records, strict=True):
            key = (task.schedule, task.epochs, task.lr)
            found.setdefault(key, []).append(record["validation_error"])
        self._means = {key: float(np.mean(errors)) for key, errors in found.items()}

    def errors(self, schedule: str, budget: int) -> list[float]:
        """Return the mean validation error of each learning rate."""
        return [self._means[schedule, budget, lr] for lr in self.lrs]

    def best_lr(self, schedule: str, budget: int) -> float:
        """Return the learning rate with the least."""
        return self.lrs[int(np.argmin(self.errors(schedule, budget)))]


class Runs:
    """The test errors of the runs that are compared, seeds first."""

    def __init__(self, scale: Scale, tasks: Sequence[Training], records: list[Record]) -> None:
        self.budgets = scale.budgets
        self.seeds = scale.seeds
        self.epochs = tuple(LONGEST * (i + 1) // scale.looks for i in range(scale.looks))
        found: dict[tuple[str, int], list[Record]] = {}
        for task, record in zip(tasks, records, strict=True):
            found.setdefault((task.schedule, task.epochs), []).append(record)
        self._records = found

    def at_budgets(self, schedule: str) -> tuple[tuple[int, ...], Floats]:
        """Return budgets, and the test error at the end of a run of each.

        Those of the restarts are the ends of the cycles, and the errors those of one run.
        """
        if schedule == "restarts":
            return CYCLES, self.on_the_way(schedule, CYCLES)
        ends = [
            [record["test_error"] for record in self._records[schedule, budget]]
            for budget in self.budgets
        ]
        return self.budgets, np.array(ends).T

    def at(self, schedule: str, budget: int) -> Floats:
        """Return the test errors, one a seed, at the end of runs of a budget."""
        budgets, errors = self.at_budgets(schedule)
        return errors[:, budgets.index(budget)]

    def on_the_way(self, schedule: str, epochs: Sequence[int]) -> Floats:
        """Return the test errors of the longest runs after some epochs."""
        rows = []
        for record in self._records[schedule, LONGEST]:
            curves = record["curves"]
            seen = dict(zip(curves["epoch"], curves["test_error"], strict=True))
            # A run that stopped knows as much from there on as one that guesses.
            rows.append([seen.get(epoch, CHANCE["error"]) for epoch in epochs])
        return np.array(rows)


def method(setting: Setting, scale: Scale) -> str:
    """Return how it was done."""
    budgets = ", ".join(map(str, scale.budgets))
    lrs = ", ".join(f"{lr:g}" for lr in scale.lrs)
    example = tuning_tasks(setting, scale)[0]
    return (
        f"AdamW (decay {DECAY:g} times the learning rate, a value from an earlier small study) "
        f"trains the multilayer perceptron on {example.size} pictures of {setting.data}, in "
        f"{example.steps // example.epochs} steps of up to {example.batch_size} pictures an epoch. "
        "The multipliers of the learning rate: fixed, 1; step drop, 0.1 after half of the run and "
        "0.01 after three quarters; cosine, from 1 to 0; warm restarts, a "
        f"cosine four times, in cycles of {FIRST_CYCLE} epochs and twice as many each time; "
        "one-cycle, up from 1/25 in the first 30 % and down to almost nothing, while β1 goes from "
        "0.95 down to 0.85 and back up (elsewhere it is 0.9). All but the restarts are run anew "
        f"for each budget, {budgets} epochs; the restarts are one run of {LONGEST} epochs, looked "
        f"at when cycles end. For each schedule and budget, {scale.tuning_seeds} seeds choose the "
        f"learning rate among {lrs} by their mean validation error; {scale.seeds} other seeds give "
        "the test errors, which are compared seed by seed. Intervals are of 95 %: of Student's t "
        "for means and paired differences, of the bootstrap over seeds for epochs. Epochs needed "
        "to a test error are interpolated between budgets, on the logarithm of epochs, along the "
        f"lowest mean error so far; what is reached in {scale.budgets[0]} epochs may have needed "
        "fewer. The target is set by the lowest mean test error of the fixed learning "
        "rate over budgets, and every resample of the bootstrap has its own."
    )

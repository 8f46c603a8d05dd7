"""Made-up records: errors from a formula, so that what is to be found in them is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thalweg_study.grids import Grid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thalweg_study.claim import Perform
    from thalweg_study.grids import Size
    from thalweg_study.task import Record, Task
    from thalweg_study.training import Training


def record(error: float, *, stopped: int | None = None) -> Record:
    """A training that ends with one error everywhere, and had ten times the loss on its way."""
    train_loss = 1e-4 / error
    return {
        "train_loss": train_loss,
        "train_error": 0.0,
        "validation_loss": error,
        "validation_error": error,
        "test_loss": error,
        "test_error": error,
        "steps": 10,
        "gradient_seconds": 1.0,
        "optimizer_seconds": 0.1,
        "stopped": stopped,
        "curves": {
            "epoch": [1, 2],
            "train_loss": [10 * train_loss, train_loss],
            "test_error": [error + 0.1, error],
        },
    }


def noise(task: Training) -> float:
    """The same for the same task, of a deviation of 1."""
    entropy = [task.seed, round(1e9 * task.lr), round(1e9 * task.decay), *map(ord, task.method)]
    return float(np.random.default_rng(entropy).standard_normal())


def valley(task: Training, size: Size, slope: float, *, depth: float = 0.02) -> float:
    """An error that is least along a line of a slope through the middle of the method's grid."""
    grid = Grid(task.data, task.model, task.method, size)
    lr = np.log10(task.lr) - np.log10(grid.lrs).mean()
    decay = np.log10(task.decay) - np.log10(grid.decays).mean()
    return float(0.05 + depth * (decay - slope * lr) ** 2 + 0.002 * lr**2 + 0.001 * noise(task))


def performing(make: Callable[[Training], Record]) -> tuple[Perform, list[Task]]:
    """Return what performs tasks by making records up, and the list of what it was given."""
    given: list[Task] = []

    def perform(tasks: Sequence[Task]) -> list[Record]:
        given.extend(tasks)
        return [make(task) for task in tasks]

    return perform, given

"""Grids of learning rate and decay: the runs that the heat maps show and that tune every method."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from thalweg_study.training import Training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thalweg_study.claim import Perform, Setting
    from thalweg_study.statistics import Floats
    from thalweg_study.task import Record

Decades: TypeAlias = tuple[tuple[float, float], tuple[float, float]]
"""Where learning rates and decays begin and end, as powers of ten."""

DECADES: dict[str, Decades] = {
    "sgd": ((-2.5, -0.5), (-4.0, -0.5)),
    "sgdw": ((-2.5, -0.5), (-3.0, 0.5)),
    "sgdw-independent": ((-2.5, -0.5), (-5.0, -1.5)),
    "adam": ((-3.5, -1.5), (-5.0, -1.0)),
    "adamw": ((-3.5, -1.5), (-2.0, 1.5)),
    "adamw-independent": ((-3.5, -1.5), (-5.0, -1.5)),
}
"""By method."""

FIRST_SEED = 1000
"""The seeds that compare begin here; those that tune begin at 0."""


@dataclass(frozen=True)
class Size:
    """How fine a grid is, and how long its runs."""

    epochs: int
    seeds: int
    a_decade: int
    """Learning rates in a factor of ten."""

    decays_a_decade: int | None = None
    """Decays in a factor of ten, if not as many."""


def size_of(setting: Setting, model: str) -> Size:
    """Return what there is time for."""
    if not setting.thorough:
        return Size(epochs=40, seeds=8, a_decade=2)
    if model == "conv":
        return Size(epochs=60, seeds=16, a_decade=2)
    return Size(epochs=60, seeds=32, a_decade=4)


@dataclass(frozen=True)
class Grid:
    """All pairs of some learning rates and decays of a method, each with the same seeds."""

    data: str
    model: str
    method: str
    size: Size
    decades: Decades | None = None
    """Those of the method, if None."""

    schedule: str = "cosine"

    @property
    def lrs(self) -> tuple[float, ...]:
        """The learning rates, from the smallest."""
        return _spread(*self._decades[0], self.size.a_decade)

    @property
    def decays(self) -> tuple[float, ...]:
        """The decays, from the smallest."""
        return _spread(*self._decades[1], self.size.decays_a_decade or self.size.a_decade)

    @property
    def _decades(self) -> Decades:
        return self.decades or DECADES[self.method]

    def tasks(self) -> list[Training]:
        """Return the runs: seeds within decays within learning rates."""
        return [
            self._task(lr, decay, seed)
            for lr in self.lrs
            for decay in self.decays
            for seed in range(self.size.seeds)
        ]

    def comparison(self, pair: tuple[float, float], seeds: int, looks: int = 0) -> list[Training]:
        """Return runs of a learning rate and decay with seeds that tune nothing."""
        return [
            replace(self._task(*pair, seed), looks=looks)
            for seed in range(FIRST_SEED, FIRST_SEED + seeds)
        ]

    def _task(self, lr: float, decay: float, seed: int) -> Training:
        epochs, schedule = self.size.epochs, self.schedule
        return Training(self.data, self.model, self.method, lr, decay, epochs, seed, schedule)

    def map(self, records: Sequence[Record]) -> Map:
        """Arrange the records of the tasks."""
        shape = (len(self.lrs), len(self.decays), self.size.seeds)

        def column(name: str) -> Floats:
            return np.array([record[name] for record in records], np.float64).reshape(shape)

        stopped = np.array([record["stopped"] is not None for record in records]).reshape(shape)
        return Map(
            grid=self,
            train_loss=column("train_loss"),
            validation=column("validation_error"),
            test=column("test_error"),
            stopped=stopped,
        )


@dataclass(frozen=True)
class Map:
    """Results of a grid; arrays are (learning rates, decays, seeds)."""

    grid: Grid
    train_loss: Floats
    validation: Floats
    test: Floats
    stopped: NDArray[np.bool_]

    @property
    def held_out(self) -> Floats:
        """The error on pictures that were not trained on: the mean of validation and test error."""
        return (self.validation + self.test) / 2

    @property
    def seeds(self) -> NDArray[np.intp]:
        """The indices of all seeds."""
        return np.arange(self.grid.size.seeds)

    def best(self, seeds: NDArray[np.intp] | None = None) -> tuple[int, int]:
        """Return where the mean validation error of seeds is smallest: learning rate and decay."""
        errors = self.validation[:, :, self.seeds if seeds is None else seeds].mean(axis=-1)
        row, column = np.unravel_index(errors.argmin(), errors.shape)
        return int(row), int(column)

    @property
    def ends(self) -> bool:
        """Whether the best is at an end of the grid, so that better may lie beyond."""
        row, column = self.best()
        return row in {0, len(self.grid.lrs) - 1} or column in {0, len(self.grid.decays) - 1}

    def tuned(self) -> tuple[float, float]:
        """Return the learning rate and decay of the smallest mean validation error."""
        row, column = self.best()
        return self.grid.lrs[row], self.grid.decays[column]


def maps(grids: Sequence[Grid], perform: Perform) -> dict[str, Map]:
    """Perform the grids of several methods, all at once."""
    tasks = [grid.tasks() for grid in grids]
    records = iter(perform([task for of_one in tasks for task in of_one]))
    return {
        grid.method: grid.map([next(records) for _ in of_one])
        for grid, of_one in zip(grids, tasks, strict=True)
    }


def _spread(first: float, last: float, a_decade: int) -> tuple[float, ...]:
    """Return powers of ten, rounded to three digits so that they can be read and typed."""
    exponents = np.linspace(first, last, round((last - first) * a_decade) + 1)
    return tuple(float(f"{10**exponent:.3g}") for exponent in exponents)

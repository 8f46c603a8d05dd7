"""How a basin lies, and what tuning apart costs, is found where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from made_up import record, valley
from thalweg_study.basins import basin, cost_from_anywhere, cost_of_tuning_apart
from thalweg_study.grids import Grid, Map, Size

SIZE = Size(epochs=1, seeds=6, a_decade=2)
GRID = Grid("digits", "mlp", "adamw", SIZE)


def valley_map(slope: float, depth: float = 0.02) -> Map:
    return GRID.map([record(valley(task, SIZE, slope, depth=depth)) for task in GRID.tasks()])


@pytest.mark.parametrize(
    ("slope", "lies"),
    [(0, "along the axes"), (-1, "diagonally"), (1, "diagonally"), (0.25, "along the axes")],
)
def test_the_slope_that_was_put_in_is_found(slope: float, lies: str) -> None:
    found = basin(valley_map(slope))
    assert found.slope is not None
    assert found.slope.contains(slope)
    assert found.slope.estimate == pytest.approx(slope, abs=0.1)
    assert found.lies == lies
    centre = np.log10(found.decays) - slope * np.log10(found.lrs)
    assert np.ptp(centre) < 0.5


def test_a_slope_at_the_border_is_not_decided() -> None:
    found = basin(valley_map(0.5))
    assert found.slope is not None
    assert found.slope.contains(0.5)
    assert found.lies == "undecided"


def test_where_decay_changes_nothing_there_is_no_slope() -> None:
    found = basin(valley_map(0, depth=0))
    assert found.slope is None
    assert found.lies == "undecided"


def test_learning_rates_that_do_not_count_are_left_out() -> None:
    of = valley_map(0)
    everything = basin(of).lrs
    far = of.validation.copy()
    far[0] += 0.2  # much worse than the best
    lost = of.stopped.copy()
    lost[2, 0] = True  # a run with less decay than the best diverged
    found = basin(Map(GRID, of.train_loss, far, of.test, lost))
    gone = set(everything) - set(found.lrs)
    assert {GRID.lrs[0], GRID.lrs[2]} == {float(f"{lr:.3g}") for lr in gone}


def test_a_best_at_the_edge_of_the_grid_does_not_count() -> None:
    errors = [
        record(0.1 - 0.01 * np.log10(task.decay) + 0.001 * task.seed) for task in GRID.tasks()
    ]
    assert len(basin(GRID.map(errors)).lrs) == 0


def test_tuning_apart_costs_nothing_along_the_axes_and_something_on_a_diagonal() -> None:
    along, diagonal = valley_map(0), valley_map(-1)
    for cost in (cost_of_tuning_apart, cost_from_anywhere):
        assert cost(along, along.seeds) == pytest.approx(0, abs=0.002)
        assert cost(diagonal, diagonal.seeds) > 0.001


def test_the_best_pair_is_chosen_by_validation_error_alone() -> None:
    of = valley_map(0)
    test = np.zeros_like(of.test)
    validation = np.full_like(of.validation, 0.3)
    validation[1, 2] = 0.1
    chosen = Map(GRID, of.train_loss, validation, test, of.stopped)
    assert chosen.best() == (1, 2)
    assert chosen.tuned() == (GRID.lrs[1], GRID.decays[2])

"""The runs: a grid of learning rate and decay for every method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg_study.basins import LOST, NEAR
from thalweg_study.grids import DECADES, Grid, maps, size_of

if TYPE_CHECKING:
    from thalweg_study.claim import Perform, Setting
    from thalweg_study.grids import Map
    from thalweg_study.training import Training

MODEL = "mlp"
SHOWN = tuple(DECADES)


def plan(setting: Setting) -> list[Training]:
    """Return the runs of all grids."""
    return [task for grid in _grids(setting) for task in grid.tasks()]


def run(setting: Setting, perform: Perform) -> dict[str, Map]:
    """Perform the grids."""
    return maps(_grids(setting), perform)


def _grids(setting: Setting) -> list[Grid]:
    size = size_of(setting, MODEL)
    return [Grid(setting.data, MODEL, method, size) for method in SHOWN]


def method(setting: Setting) -> str:
    """Return how it was done."""
    grids = _grids(setting)
    cells = sum(len(grid.lrs) * len(grid.decays) for grid in grids)
    size, example = grids[0].size, grids[0].tasks()[0]
    return (
        f"The multilayer perceptron learns {example.size} pictures of {setting.data} for "
        f"{size.epochs} epochs in batches of {example.batch_size} ({example.steps} steps) under a "
        f"cosine to zero. Each of {cells} pairs of learning rate and decay is run with the same "
        f"{size.seeds} seeds. A seed is a choice of training pictures, first weights and batches; "
        "the test pictures are always the same. Stars mark the smallest mean validation error. "
        "The seeds that choose are those that are shown, since all cells are: what is best is "
        "chosen by other pictures than its test error is of, but by the same runs, which flatters "
        "it a little. (The claim about generalisation is judged with other seeds.)\n\n"
        "To find how a basin lies, the best decay of a learning rate is where the parabola through "
        "the lowest error, of validation and test pictures together, and its neighbours is lowest. "
        "A learning rate counts if, with all seeds, its best error is at most "
        f"{NEAR:g} times the best of the map, its best decay lies inside the grid and beats the "
        "smallest in a paired comparison, and no run with as little decay or less diverged or "
        f"ended with an error above {LOST:.0%}. Intervals of 95 % are from a bootstrap over seeds; "
        "those of slopes take for granted which learning rates count. Where something is chosen, "
        "every resample chooses anew, so that a figure need not lie in the middle of its interval."
    )

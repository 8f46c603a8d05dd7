"""Heat maps: where the good settings of each method lie, over learning rate and decay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg.study.basins import basin
from thalweg.study.claim import Chapter
from thalweg.study.claims.heat_maps import judging, pictures
from thalweg.study.grids import Grid, maps, size_of
from thalweg.study.methods import METHODS

if TYPE_CHECKING:
    from thalweg.study.claim import Perform, Setting
    from thalweg.study.training import Training

NAME = "heat-maps"
TITLE = "Heat maps over learning rate and decay"
QUESTION = (
    "Where do the good settings lie? If the best decay moves with the learning rate, the two have "
    "to be tuned together; if it does not, one after the other will do."
)
SOURCE = "Loshchilov and Hutter, Decoupled Weight Decay Regularization, section 4.2 and figure 2"

MODEL = "mlp"
SHOWN = tuple(method for method in METHODS if method != "amsgrad")


def plan(setting: Setting) -> list[Training]:
    """Return the runs of all grids."""
    size = size_of(setting, MODEL)
    grids = (Grid(setting.data, MODEL, method, size) for method in SHOWN)
    return [task for grid in grids for task in grid.tasks()]


def study(setting: Setting, perform: Perform) -> Chapter:
    """Draw the maps, measure how their basins lie, and what tuning apart costs."""
    found = maps(setting, MODEL, SHOWN, perform)
    basins = {method: basin(one) for method, one in found.items()}
    return Chapter(
        verdicts=(
            *judging.directions(basins),
            judging.effect(found),
            *judging.tuning(found),
        ),
        pictures=(
            pictures.all_maps(found, basins),
            pictures.pair(found, basins),
            pictures.slopes(basins),
        ),
        tables=judging.tables(found, basins),
        method=_method(setting),
    )


def _method(setting: Setting) -> str:
    size = size_of(setting, MODEL)
    cells = sum(
        len(grid.lrs) * len(grid.decays)
        for grid in (Grid(setting.data, MODEL, method, size) for method in SHOWN)
    )
    example = Grid(setting.data, MODEL, "adamw", size).tasks()[0]
    return (
        f"The multilayer perceptron learns {example.size} pictures of {setting.data} for "
        f"{size.epochs} epochs in batches of {example.batch_size} ({example.steps} steps) under a "
        f"cosine to zero. Each of {cells} pairs of learning rate and decay is run with the same "
        f"{size.seeds} seeds. A seed is a choice of training pictures, first weights and batches; "
        "the test pictures are always the same. Stars mark the smallest mean validation error. "
        "To find how a basin lies, the best decay of a learning rate is where the parabola through "
        "the lowest error, of validation and test pictures together, and its neighbours is lowest. "
        "A learning rate counts if its best error is at most 1.4 times the best of the map, its "
        "best decay lies inside the grid and beats the smallest in a paired comparison, and no run "
        "with as little decay or less diverged. Intervals of 95 % are "
        "from a bootstrap over seeds."
    )

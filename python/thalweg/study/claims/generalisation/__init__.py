"""Generalisation: the best of each method, on seeds that tuned nothing, in pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from thalweg.study.claim import Chapter
from thalweg.study.claims.generalisation import judging, pictures
from thalweg.study.claims.generalisation.runs import METHODS, Runs
from thalweg.study.grids import Grid, maps, size_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thalweg.study.claim import Perform, Setting
    from thalweg.study.training import Training

NAME = "generalisation"
TITLE = "Generalisation of the best settings"
QUESTION = (
    "Each method at its best: does AdamW recognise more digits that it has never seen than Adam "
    "with the L2 penalty, also where both fit the training pictures equally well, and does it keep "
    "up with SGD with momentum?"
)
SOURCE = "Loshchilov and Hutter, Decoupled Weight Decay Regularization, section 4.3 and figure 3"

FIRST_SEED = 1000
"""The seeds that compare begin here; those that tune begin at 0."""

LOOKS = 30


def plan(setting: Setting) -> list[Training]:
    """Return the grids and the runs that compare, with any setting in place of the best."""
    return [
        task
        for model in _models(setting)
        for grid in _grids(setting, model)
        for task in (*grid.tasks(), *_comparison(grid, (grid.lrs[0], grid.decays[0]), setting))
    ]


def study(setting: Setting, perform: Perform) -> Chapter:
    """Tune every method, run its best with other seeds, and compare in pairs."""
    found = [_compare(setting, model, perform) for model in _models(setting)]
    return Chapter(
        verdicts=tuple(verdict for runs in found for verdict in judging.verdicts(runs)),
        pictures=tuple(
            picture
            for runs in found
            for picture in (pictures.errors(runs), pictures.at_equal_loss(runs))
        ),
        tables=tuple(judging.table(runs) for runs in found),
        method=_method(setting),
    )


def _compare(setting: Setting, model: str, perform: Perform) -> Runs:
    tuned = maps(setting, model, METHODS, perform)
    tasks = [task for of in tuned.values() for task in _comparison(of.grid, of.tuned(), setting)]
    records = np.array(perform(tasks), object).reshape(len(METHODS), -1)
    return Runs(
        model=model,
        maps=tuned,
        records={method: list(row) for method, row in zip(tuned, records, strict=True)},
    )


def _models(setting: Setting) -> Sequence[str]:
    return ("mlp", "conv") if setting.thorough else ("mlp",)


def _seeds(setting: Setting) -> int:
    return 60 if setting.thorough else 10


def _grids(setting: Setting, model: str) -> list[Grid]:
    size = size_of(setting, model)
    return [Grid(setting.data, model, method, size) for method in METHODS]


def _comparison(grid: Grid, best: tuple[float, float], setting: Setting) -> list[Training]:
    lr, decay = best
    first = replace(grid.tasks()[0], lr=lr, decay=decay, looks=LOOKS)
    return [replace(first, seed=seed) for seed in range(FIRST_SEED, FIRST_SEED + _seeds(setting))]


def _method(setting: Setting) -> str:
    models = " and ".join(_models(setting))
    sizes = "; ".join(
        f"{model}: {size.epochs} epochs, {size.a_decade} values in a factor of ten, "
        f"{size.seeds} seeds to tune"
        for model in _models(setting)
        for size in (size_of(setting, model),)
    )
    return (
        f"Models: {models}, on {setting.data}. Learning rate and decay of every method are those "
        f"of the smallest mean validation error on a grid ({sizes}). The best pair then runs with "
        f"{_seeds(setting)} other seeds, the same for all methods, and test errors are compared "
        "seed by seed, with Student's intervals of 95 % for the mean difference. The networks are "
        f"looked at {LOOKS} times on the way. Equal training loss: the larger of the two methods' "
        "final training losses of that seed, and each method's test error when it first is that "
        "low, by linear interpolation over the logarithm of the loss."
    )

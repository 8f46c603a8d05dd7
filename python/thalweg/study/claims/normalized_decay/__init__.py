"""Normalized decay: how the best decay moves with the length of a run.

``experiment`` says what is run and gathers it, ``judging`` applies the rules, ``pictures`` draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg.study.claim import Chapter
from thalweg.study.claims.normalized_decay import experiment, judging, pictures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thalweg.study.claim import Perform, Setting
    from thalweg.study.task import Task

NAME = "normalized-decay"
TITLE = "Normalized decay"
QUESTION = (
    "Does the best decay λ of a run fall with the length of the run, and does the normalized decay "
    "λ_norm = λ·√(B·T/b) stay where it is?"
)
SOURCE = (
    "Loshchilov and Hutter, Decoupled Weight Decay Regularization (section 4 and appendix B.1); "
    "beside it Wang and Aitchison, How to set AdamW's weight decay as you scale model and dataset "
    "size"
)


def plan(setting: Setting) -> Sequence[Task]:
    """Return all tasks; those that compare stand in with a decay."""
    scale = experiment.scale_of(setting)
    middle = dict.fromkeys(experiment.KEPT, scale.decays[len(scale.decays) // 2])
    return [
        *experiment.tuning_tasks(setting, scale),
        *experiment.comparing_tasks(setting, scale, middle),
    ]


def study(setting: Setting, perform: Perform) -> Chapter:
    """Find the best decay of each budget, carry that of the shortest to the longest, judge."""
    scale = experiment.scale_of(setting)
    tasks = experiment.tuning_tasks(setting, scale)
    grid = experiment.Grid(scale, tasks, perform(tasks))
    decays = judging.carried(grid)
    tasks = experiment.comparing_tasks(setting, scale, decays)
    costs = experiment.gather(scale, perform(tasks))
    return Chapter(
        verdicts=judging.verdicts(grid, costs),
        pictures=pictures.draw(grid, decays, costs),
        tables=judging.tables(grid, decays, costs),
        method=experiment.method(setting, scale),
    )

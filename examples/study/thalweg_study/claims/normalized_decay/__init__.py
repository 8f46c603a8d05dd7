"""Normalized decay: how the best decay moves with the length of a run.

``experiment`` plans runs and gathers results, ``judging`` applies the rules, ``pictures`` draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg_study.claim import Chapter
from thalweg_study.claims.normalized_decay import experiment, judging, pictures
from thalweg_study.claims.normalized_decay.experiment import plan

if TYPE_CHECKING:
    from thalweg_study.claim import Perform, Setting

__all__ = ["NAME", "QUESTION", "SOURCE", "SUMMARY", "TITLE", "plan", "study"]

NAME = "normalized-decay"
SUMMARY = "whether the best decay moves with the training budget"
TITLE = "Normalized decay"
QUESTION = (
    "Does the best decay λ of a run fall with the length of the run, and does the normalized decay "
    "λ_norm = λ·√(B·T/b) stay where it is?"
)
SOURCE = (
    "Loshchilov and Hutter, Decoupled Weight Decay Regularization, appendices B.1 and D; beside it "
    "Wang and Aitchison, How to set AdamW's weight decay as you scale model and dataset size"
)


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

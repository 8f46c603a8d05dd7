"""Schedules of the learning rate: how soon each reaches an accuracy, and how well it ends.

``experiment`` plans runs and gathers results, ``judging`` applies the rules, ``pictures`` draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg_study.claim import Chapter
from thalweg_study.claims.schedules import experiment, judging, pictures
from thalweg_study.claims.schedules.experiment import plan

if TYPE_CHECKING:
    from thalweg_study.claim import Perform, Setting

__all__ = ["NAME", "QUESTION", "SOURCE", "SUMMARY", "TITLE", "plan", "study"]

NAME = "schedules"
SUMMARY = "fixed, step, cosine, restarts, one cycle: what is fast"
TITLE = "Schedules of the learning rate"
QUESTION = (
    "How many epochs does AdamW need to a given accuracy when its learning rate is fixed, drops in "
    "steps, falls along a cosine, restarts, or goes up and down once, and which of them ends best?"
)
SOURCE = (
    "Loshchilov and Hutter, Decoupled Weight Decay Regularization, section 4.1 with figure 1 "
    "(cosine) and 4.4 with figure 4 (warm restarts); Gugger and Howard, AdamW and "
    "Super-convergence is now the fastest way to train neural nets (one-cycle)"
)


def study(setting: Setting, perform: Perform) -> Chapter:
    """Choose learning rates, compare the schedules, judge, draw."""
    scale = experiment.scale_of(setting)
    tasks = experiment.tuning_tasks(setting, scale)
    tuning = experiment.Tuning(scale, tasks, perform(tasks))
    tasks = experiment.comparing_tasks(setting, scale, tuning.best_lr)
    runs = experiment.Runs(scale, tasks, perform(tasks))
    needed = judging.all_needed(runs)
    return Chapter(
        verdicts=judging.verdicts(runs, needed),
        pictures=pictures.draw(tuning, runs, needed),
        tables=judging.tables(tuning, runs, needed),
        method=experiment.method(setting, scale),
    )

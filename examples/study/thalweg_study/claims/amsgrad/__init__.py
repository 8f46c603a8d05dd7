"""Whether AMSGrad helps: where Adam is known to fail, and where networks are trained.

``experiment`` plans runs and gathers results, ``judging`` applies the rules, ``pictures`` draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg_study.claim import Chapter
from thalweg_study.claims.amsgrad import experiment, judging, pictures
from thalweg_study.claims.amsgrad.experiment import plan

if TYPE_CHECKING:
    from thalweg_study.claim import Perform, Setting

__all__ = ["NAME", "QUESTION", "SOURCE", "SUMMARY", "TITLE", "plan", "study"]

NAME = "amsgrad"
SUMMARY = "where Adam fails and AMSGrad does not; what it gains on data"
TITLE = "AMSGrad: a proof that it is needed, and what it gains"
QUESTION = (
    "Does Adam go to the worst point of a problem that AMSGrad solves? And does AMSGrad gain "
    "anything on real data, with the learning rate tuned for each?"
)
SOURCE = (
    "Reddi, Kale and Kumar, On the Convergence of Adam and Beyond, section 5 (the problem); Gugger "
    "and Howard, AdamW and Super-convergence is now the fastest way to train neural nets (that "
    "AMSGrad does not help)"
)


def study(setting: Setting, perform: Perform) -> Chapter:
    """Ask the question: perform the tasks, judge, draw."""
    results = experiment.run(setting, perform)
    return Chapter(
        verdicts=judging.verdicts(results),
        pictures=pictures.draw(results),
        tables=judging.tables(results),
        method=experiment.method(results),
    )

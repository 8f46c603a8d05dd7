"""Whether an L2 penalty is weight decay: for plain gradient descent, with momentum, for Adam.

``experiment`` plans runs and gathers results, ``judging`` applies the rules, ``pictures`` draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg_study.claim import Chapter
from thalweg_study.claims.equivalence import experiment, judging, pictures
from thalweg_study.claims.equivalence.experiment import plan

if TYPE_CHECKING:
    from thalweg_study.claim import Perform, Setting

__all__ = ["NAME", "QUESTION", "SOURCE", "SUMMARY", "TITLE", "plan", "study"]

NAME = "equivalence"
SUMMARY = "L2 and weight decay: one for SGD, two with momentum or Adam"
TITLE = "When L2 is weight decay, and when it is not"
QUESTION = (
    "Do a penalty and decoupled decay lead the weights along the same way, from the same start on "
    "the same batches? If the same number does not, does any other strength of the penalty?"
)
SOURCE = (
    "Loshchilov and Hutter, Decoupled Weight Decay Regularization, section 2: proposition 1, of "
    "plain gradient descent, and 2, of adaptive methods; neither is about momentum, and what is "
    "asked of it here is the study's own question"
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

"""Whether an L2 penalty is weight decay: for plain gradient descent, with momentum, for Adam."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg.study.claim import Chapter
from thalweg.study.claims.equivalence import judging, pictures
from thalweg.study.claims.equivalence.experiment import plan, run

if TYPE_CHECKING:
    from thalweg.study.claim import Perform, Setting

__all__ = ["NAME", "QUESTION", "SOURCE", "TITLE", "plan", "study"]

NAME = "equivalence"
TITLE = "When L2 is weight decay, and when it is not"
QUESTION = (
    "Do a penalty and decoupled decay lead the weights along the same way, from the same start on "
    "the same batches? If the same number does not, does any other strength of the penalty?"
)
SOURCE = (
    "Loshchilov and Hutter, Decoupled Weight Decay Regularization, section 2: propositions 1 and 2"
)


def study(setting: Setting, perform: Perform) -> Chapter:
    """Ask the question: perform the tasks, judge, draw."""
    results = run(setting, perform)
    return Chapter(
        verdicts=judging.verdicts(results),
        pictures=pictures.pictures(results),
        tables=(judging.table(results),),
        method=judging.method(results),
    )

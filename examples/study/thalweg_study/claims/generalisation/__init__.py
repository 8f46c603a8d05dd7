"""Generalisation: the best of each method, on seeds that tuned nothing, in pairs.

``experiment`` plans runs and gathers results, ``judging`` applies the rules, ``pictures`` draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg_study.claim import Chapter
from thalweg_study.claims.generalisation import experiment, judging, pictures
from thalweg_study.claims.generalisation.experiment import plan

if TYPE_CHECKING:
    from thalweg_study.claim import Perform, Setting

__all__ = ["NAME", "QUESTION", "SOURCE", "SUMMARY", "TITLE", "plan", "study"]

NAME = "generalisation"
SUMMARY = "Adam + L2, AdamW and SGDW at their best, over many seeds"
TITLE = "Generalisation of the best settings"
QUESTION = (
    "Each method at its best: does AdamW recognise more digits that it has never seen than Adam "
    "with the L2 penalty, also where both fit the training pictures equally well, and does it keep "
    "up with SGD with momentum?"
)
SOURCE = (
    "Loshchilov and Hutter, Decoupled Weight Decay Regularization, sections 4.2 (competing with "
    "SGD) and 4.3 with figure 3"
)


def study(setting: Setting, perform: Perform) -> Chapter:
    """Tune every method, run its best with other seeds, and compare in pairs."""
    found = experiment.run(setting, perform)
    return Chapter(
        verdicts=tuple(verdict for runs in found for verdict in judging.verdicts(runs)),
        pictures=tuple(picture for runs in found for picture in pictures.draw(runs)),
        tables=tuple(judging.table(runs) for runs in found),
        method=experiment.method(setting),
    )

"""Heat maps: where the good settings of each method lie, over learning rate and decay.

``experiment`` plans runs and gathers results, ``judging`` applies the rules, ``pictures`` draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg_study.basins import basin
from thalweg_study.claim import Chapter
from thalweg_study.claims.heat_maps import experiment, judging, pictures
from thalweg_study.claims.heat_maps.experiment import plan

if TYPE_CHECKING:
    from thalweg_study.claim import Perform, Setting

__all__ = ["NAME", "QUESTION", "SOURCE", "SUMMARY", "TITLE", "plan", "study"]

NAME = "heat-maps"
SUMMARY = "test error over learning rate and decay: tuned apart or not"
TITLE = "Heat maps over learning rate and decay"
QUESTION = (
    "Where do the good settings lie? If the best decay moves with the learning rate, the two have "
    "to be tuned together; if it does not, one after the other will do."
)
SOURCE = "Loshchilov and Hutter, Decoupled Weight Decay Regularization, section 4.2 and figure 2"


def study(setting: Setting, perform: Perform) -> Chapter:
    """Draw the maps, measure how their basins lie, and what tuning apart costs."""
    maps = experiment.run(setting, perform)
    basins = {method: basin(of) for method, of in maps.items()}
    return Chapter(
        verdicts=judging.verdicts(maps, basins),
        pictures=pictures.draw(maps, basins),
        tables=judging.tables(maps, basins),
        method=experiment.method(setting),
    )

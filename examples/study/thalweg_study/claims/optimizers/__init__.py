"""The other rules: each tuned on the same grid, and compared with AdamW at equal budgets.

``experiment`` plans runs and gathers results, ``judging`` applies the rules, ``pictures`` draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg_study.claim import Chapter
from thalweg_study.claims.optimizers import experiment, judging, pictures
from thalweg_study.claims.optimizers.experiment import plan

if TYPE_CHECKING:
    from thalweg_study.claim import Perform, Setting

__all__ = ["NAME", "QUESTION", "SOURCE", "SUMMARY", "TITLE", "plan", "study"]

NAME = "optimizers"
SUMMARY = "ten other rules beside AdamW, tuned alike, at equal budgets"
TITLE = "The other rules"
QUESTION = (
    "With the same grid to tune on and the same number of steps, which rule ends with a lower test "
    "error than AdamW? Which of them can be told apart at all, and how exactly does each need its "
    "learning rate?"
)
SOURCE = (
    "The papers that propose the rules: Dozat, Incorporating Nesterov Momentum into Adam; Liu et "
    "al., On the Variance of the Adaptive Learning Rate and Beyond; Zhuang et al., AdaBelief "
    "Optimizer; Chen et al., Symbolic Discovery of Optimization Algorithms (Lion); Tieleman and "
    "Hinton, Lecture 6.5 (RMSprop); Duchi, Hazan and Singer, Adaptive Subgradient Methods "
    "(Adagrad); Defazio et al., The Road Less Scheduled; Liang et al., Cautious Optimizers; "
    "Wortsman et al., Stable and low-precision training for large-scale vision-language models "
    "(StableAdamW); Loshchilov and Hutter, Decoupled Weight Decay Regularization (SGDW)"
)


def study(setting: Setting, perform: Perform) -> Chapter:
    """Tune every rule, run its best with other seeds, and compare in pairs."""
    results = experiment.run(setting, perform)
    return Chapter(
        verdicts=judging.verdicts(results),
        pictures=pictures.draw(results),
        tables=(judging.table(results),),
        method=experiment.method(setting),
    )

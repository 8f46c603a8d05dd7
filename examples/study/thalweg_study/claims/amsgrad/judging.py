"""The verdicts with their rules, and the figures behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thalweg_study.claim import Table, Verdict
from thalweg_study.claims.amsgrad.experiment import FIRST, METHODS
from thalweg_study.methods import METHODS as DESCRIBED
from thalweg_study.online import COMMON, PERIOD, PROBABILITY, RARE
from thalweg_study.rules import below
from thalweg_study.statistics import Interval, mean_interval
from thalweg_study.wording import AT_AN_END, NETWORKS, choice

if TYPE_CHECKING:
    from thalweg_study.claim import Outcome
    from thalweg_study.claims.amsgrad.experiment import Network, Results
    from thalweg_study.task import Record

ASIDE = 0.5
"""From here on a point in [-1, 1] counts as gone to that side."""

MARGIN = 0.005
"""A lower test error by less is little or nothing: half a percentage point."""


def verdicts(results: Results) -> tuple[Verdict, ...]:
    """Judge the problem in both versions, and each network."""
    return (
        _online(results),
        _stochastic(results),
        *(_network(model, network) for model, network in results.networks.items()),
    )


def _online(results: Results) -> Verdict:
    ends = [results.online[FIRST, amsgrad] for amsgrad in (False, True)]
    adam, amsgrad = (Interval(end["last"], end["last"], end["last"]) for end in ends)
    return Verdict(
        sentence="There is a convex problem in which Adam goes to the worst point of all, and "
        "AMSGrad to the best.",
        rule=(
            f"Best is -1, worst is 1. Holds if, in the mean over the last tenth of the steps, Adam "
            f"is above {ASIDE:g} and AMSGrad below -{ASIDE:g}. Does not hold if Adam is below 0 or "
            "AMSGrad above 0. Undecided otherwise."
        ),
        outcome=_sides(adam, amsgrad),
        figures=(
            f"In the last tenth of {results.scale.online_steps:,} steps Adam is at "
            f"{adam.estimate:.3f} and AMSGrad at {amsgrad.estimate:.3f}; the average regret is "
            f"{ends[0]['final_regret']:.3f} and {ends[1]['final_regret']:.3f} at the end, where "
            f"one that always stays at 1 has {regret_of_worst(stochastic=False):.3f}."
        ),
    )


def _stochastic(results: Results) -> Verdict:
    ends = [results.stochastic[amsgrad] for amsgrad in (False, True)]
    adam, amsgrad = (mean_interval(end["lasts"]) for end in ends)
    return Verdict(
        sentence="It is the same if the problem is stochastic.",
        rule=(
            "The rule of the problem above, for the intervals of the means over independent runs: "
            "what is said of a point holds for all of its interval."
        ),
        outcome=_sides(adam, amsgrad),
        figures=(
            f"In the last tenth of {results.scale.stochastic_steps:,} steps, the mean of "
            f"{results.scale.copies} runs is {adam:.3f} for Adam and {amsgrad:.3f} for AMSGrad; "
            f"the average regret is {ends[0]['final_regret']:.3f} and "
            f"{ends[1]['final_regret']:.3f} at the end."
        ),
    )


def _sides(adam: Interval, amsgrad: Interval) -> Outcome:
    if adam.above(ASIDE) and amsgrad.below(-ASIDE):
        return "holds"
    if adam.below(0) or amsgrad.above(0):
        return "does not hold"
    return "undecided"


def _network(model: str, network: Network) -> Verdict:
    gain = mean_interval(network.gains)
    errors = {method: mean_interval(100 * network.errors[method]) for method in METHODS}
    return Verdict(
        sentence=f"On real data AMSGrad gains little or nothing ({NETWORKS[model]}).",
        rule=(
            f"A gain below {100 * MARGIN:g} percentage points of test error is little or nothing. "
            "Holds if the whole paired interval of AMSGrad's gain over AdamW is below that, does "
            "not hold if all of it is above, undecided if it contains that."
        ),
        outcome=below(gain, MARGIN),
        figures=(
            f"AMSGrad's gain is {mean_interval(100 * network.gains):.2f} percentage points: test "
            f"errors are {errors['adamw']:.2f} % for AdamW and {errors['amsgrad']:.2f} % for "
            f"AMSGrad, over {len(network.gains)} seeds."
        ),
    )


def regret_of_worst(*, stochastic: bool) -> float:
    """Return the average regret of one that always stays at 1."""
    share = PROBABILITY if stochastic else 1 / PERIOD
    return 2 * (share * RARE + (1 - share) * COMMON)


def tables(results: Results) -> tuple[Table, ...]:
    """Return what came of the problem, and of the networks."""
    return _problem(results), _networks(results)


def _problem(results: Results) -> Table:
    """Return where the deterministic problem ends, in all variants."""

    def row(variant: str, amsgrad: bool, record: Record) -> tuple[str, ...]:
        earlier = np.interp(record["steps"][-1] / 10, record["steps"], record["regret"][0])
        return (
            "AMSGrad" if amsgrad else "Adam",
            variant,
            f"{record['last']:.3f}",
            f"{earlier:.3f}",
            f"{record['final_regret']:.3f}",
        )

    return Table(
        caption=(
            "The deterministic problem, and whether its outcome depends on the correction of the "
            "bias, which thalweg does and the paper does not, or on β₂, which is 0.999 by default."
        ),
        columns=(
            "method",
            "variant",
            "point, last tenth",
            "average regret, a tenth of the way",
            "average regret, end",
        ),
        rows=tuple(row(*key, record) for key, record in results.online.items()),
    )


def _networks(results: Results) -> Table:
    """Return what was chosen for each network, and what came of it."""
    return Table(
        caption=(
            "Real data: the chosen numbers, and the test error in percent with its interval. "
            f"{AT_AN_END}"
        ),
        columns=("network", "method", "lr", "decay", "validation error, choosing", "test error"),
        rows=tuple(
            (
                NETWORKS[model],
                DESCRIBED[method].label,
                choice(network.chosen[method][0], results.scale.rates),
                choice(network.chosen[method][1], results.scale.decays),
                f"{100 * network.tuning[method][network.chosen[method]].mean():.2f}",
                f"{mean_interval(100 * network.errors[method]):.2f}",
            )
            for model, network in results.networks.items()
            for method in METHODS
        ),
    )

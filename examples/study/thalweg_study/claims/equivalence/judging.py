"""The verdicts with their rules, and the figures behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from thalweg_study.claim import Table, Verdict
from thalweg_study.claims.equivalence.experiment import DTYPES, SHRINKAGE
from thalweg_study.rules import above
from thalweg_study.statistics import mean_interval
from thalweg_study.trajectory import RULES

if TYPE_CHECKING:
    from thalweg_study.claim import Outcome
    from thalweg_study.claims.equivalence.experiment import Results
    from thalweg_study.statistics import Floats

SAME = 10.0
"""Largest distance that is due to rounding, in units of the control's."""

APART = 1000.0
"""Least distance that is not due to rounding, in the same units."""

FOLLOWS = 0.1
"""A penalty follows the decay if it leaves no more than this of the decay's effect undone."""


def verdicts(results: Results) -> tuple[Verdict, ...]:
    """Judge what the paper says of each rule."""
    return _plain(results), _momentum(results), _less_so(results), _no_strength(results)


def over_control(results: Results, rule: str, dtype: str) -> Floats:
    """Return the distance of both kinds of decay at the end in units of the control's."""
    return _over(results.same[rule, dtype].ends, results, rule, dtype)


def _over(ends: Floats, results: Results, rule: str, dtype: str) -> Floats:
    # Runs that end on the same bits are no nearer than the type can tell.
    unit = np.finfo(dtype).eps
    return np.maximum(ends, unit) / np.maximum(results.control[rule, dtype].ends, unit)


def _plain(results: Results) -> Verdict:
    ratios = np.concatenate([over_control(results, "sgd", dtype) for dtype in DTYPES])
    outcome: Outcome = "undecided"
    if ratios.max() <= SAME:
        outcome = "holds"
    elif ratios.max() >= APART:
        outcome = "does not hold"
    ends = {dtype: results.same["sgd", dtype].ends.max() for dtype in DTYPES}
    return Verdict(
        sentence="For plain gradient descent, an L2 penalty and weight decay are the same.",
        rule=(
            "Holds if, for every seed and in float64 as in float32, the two end at most "
            f"{SAME:g} times as far apart as two runs of one method whose starts differ by a unit "
            f"in the last place. Does not hold if any two end {APART:g} times as far apart or "
            "more. Undecided in between."
        ),
        outcome=outcome,
        figures=(
            f"At most {ratios.max():.2g} times the control's distance; the largest distances at "
            f"the end are {ends['float64']:.1e} in float64 and {ends['float32']:.1e} in float32, "
            "relative to the way."
        ),
    )


def _momentum(results: Results) -> Verdict:
    same = over_control(results, "momentum", "float64")
    best = _over(results.best["momentum"].ends, results, "momentum", "float64")
    smallest = mean_interval(results.smallest("momentum"))
    outcome: Outcome = "undecided"
    if min(same.min(), best.min()) >= APART:
        outcome = "holds"
    elif same.max() <= SAME or best.max() <= SAME:
        outcome = "does not hold"
    return Verdict(
        sentence="With momentum they are not the same.",
        rule=(
            "Holds if, for every seed in float64, penalty and decay of the same number, and decay "
            f"and the penalty that imitates it best, end at least {APART:g} times as far apart as "
            f"the control. Does not hold if one of the two stays within {SAME:g} times for all "
            "seeds. Undecided otherwise. (In float32 rounding can grow to within that factor.)"
        ),
        outcome=outcome,
        figures=(
            f"At least {same.min():.1e} times the control's distance with the same number, and "
            f"{best.min():.1e} times with {results.best_factor('momentum'):.3g} of the number, "
            f"which imitates best and leaves {smallest:.3f} of the decay's effect undone."
        ),
    )


def _less_so(results: Results) -> Verdict:
    more = mean_interval(results.smallest("adam") - results.smallest("momentum"))
    return Verdict(
        sentence="For Adam they are even less the same than with momentum.",
        rule=(
            "For each rule and seed, the penalty is sought that ends nearest to the decay; what it "
            "leaves undone is its distance from there, in units of what the decay does. Holds if "
            "the paired interval of Adam's minus momentum's is above 0, does not hold if it is "
            "below, undecided if it contains 0."
        ),
        outcome=above(more, 0),
        figures=(
            f"Left undone at best: Adam {mean_interval(results.smallest('adam')):.3f}, momentum "
            f"{mean_interval(results.smallest('momentum')):.3f}; the difference is {more:.3f}."
        ),
    )


def _no_strength(results: Results) -> Verdict:
    smallest = mean_interval(results.smallest("adam"))
    return Verdict(
        sentence="For an adaptive method no penalty of any strength is the same as weight decay.",
        rule=(
            f"Holds if the interval of what the best penalty leaves undone is above {FOLLOWS:g} "
            "of the decay's effect, does not hold if it is below, undecided if it contains that."
        ),
        outcome=above(smallest, FOLLOWS),
        figures=(
            f"The best penalty for Adam, {results.best_factor('adam'):.2g} of the decay's number, "
            f"leaves {smallest:.3f} of the decay's effect undone. The same search for plain "
            f"gradient descent leaves {results.smallest('sgd').max():.1e} at most."
        ),
    )


def tables(results: Results) -> tuple[Table, ...]:
    """Return the figures of each rule."""

    def row(rule: str) -> tuple[str, ...]:
        lr = RULES[rule].lr
        ends = (
            f"{stats.gmean(ways[rule, 'float64'].ends):.2g}"
            for ways in (results.same, results.control)
        )
        return (
            RULES[rule].label,
            f"{lr:g}",
            f"{SHRINKAGE / lr:.3g}",
            *ends,
            f"{results.best_factor(rule):.3g}",
            f"{mean_interval(results.smallest(rule)):.2g}",
        )

    table = Table(
        caption=(
            "Distances at the end in float64, geometric means over the seeds; the penalty that "
            "imitates the decay best, in units of the decay's number; and what it leaves undone of "
            "the decay's effect, with its interval of 95 %."
        ),
        columns=(
            "rule",
            "lr",
            "decay",
            "distance, same number",
            "distance, control",
            "best L2 / decay",
            "left undone",
        ),
        rows=tuple(row(rule) for rule in RULES),
    )
    return (table,)

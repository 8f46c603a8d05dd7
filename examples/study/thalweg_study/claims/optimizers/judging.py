"""Judgement of the runs: each rule against AdamW, whether there is an order, and the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg_study.claim import Table, Verdict
from thalweg_study.claims.optimizers.experiment import BASE, METHODS, OTHERS, PAIRS
from thalweg_study.methods import METHODS as DESCRIBED
from thalweg_study.rules import below
from thalweg_study.statistics import mean_interval
from thalweg_study.wording import AT_AN_END, caution, choice, listed, points

if TYPE_CHECKING:
    from thalweg_study.claims.optimizers.experiment import Results

LITTLE = 0.003
"""A difference in test error that is called little: 0.3 points."""

NEAR = 0.01
"""A validation error within this of the best is near it: a point."""


def verdicts(results: Results) -> tuple[Verdict, ...]:
    """Judge every rule against AdamW, and whether they can be put in order."""
    return (*(_against(results, method) for method in OTHERS), _order(results))


def _against(results: Results, method: str) -> Verdict:
    label, more = label_of(method), results.more(method)
    ends = [label_of(name) for name in (method, BASE) if results.maps[name].ends]
    return Verdict(
        f"{label} ends with a lower test error than AdamW.",
        f"The interval is that of the paired difference, {label} minus AdamW; those of all "
        f"{len(OTHERS)} rules hold together with 95 % confidence. Holds if the whole interval is "
        f"below 0; else does not hold if all of it is above {-100 * LITTLE:g} percentage points, "
        "so that a gain is little or nothing; undecided otherwise.",
        below(more, 0, fails_above=-LITTLE),
        f"{label} minus AdamW: {points(more)} percentage points.{caution(ends)}",
    )


def _order(results: Results) -> Verdict:
    told = sum(results.apart(*pair) for pair in PAIRS)
    best = results.order[0]
    same = [label_of(name) for name in results.order[1:] if not results.apart(best, name)]
    return Verdict(
        f"These runs tell the order of the {len(METHODS)} rules by test error.",
        "Two rules can be told apart if the interval of their paired difference excludes 0; all "
        f"{len(PAIRS)} intervals hold together with 95 % confidence. Holds if every pair can be "
        "told apart, does not hold if any cannot.",
        "holds" if told == len(PAIRS) else "does not hold",
        f"{told} of {len(PAIRS)} pairs can be told apart. {label_of(best)} has the lowest mean, "
        f"{100 * results.errors[best].mean():.2f} %, and can be told from "
        + (f"all but {listed(same)}." if same else "all others."),
    )


def label_of(method: str) -> str:
    """Return the name of a rule."""
    return DESCRIBED[method].label


def table(results: Results) -> Table:
    """Return the best setting of every rule, how it did, and how much depends on the setting."""
    rows = []
    for method in results.order:
        of = results.maps[method]
        lr, decay = of.tuned()
        apart = sum(results.apart(method, other) for other in METHODS if other != method)
        rows.append(
            (
                label_of(method),
                choice(lr, of.grid.lrs),
                choice(decay, of.grid.decays),
                f"{mean_interval(results.errors[method]).scaled(100):.2f}",
                "-" if method == BASE else points(results.more(method)),
                f"{apart} of {len(METHODS) - 1}",
                "{:g} to {:g}".format(*results.near(method, NEAR)),
                "-" if method == BASE else points(results.borrowed(method)),
            )
        )
    return Table(
        f"The best setting of every rule, over {len(results.errors[BASE])} seeds that tuned "
        "nothing, from the lowest test error, in percent with its interval of 95 %. Differences to "
        f"AdamW have intervals that hold together for all {len(OTHERS)}. Learning rates near the "
        f"best have a validation error within {100 * NEAR:g} point of it, at the best decay. In "
        "the last column a rule has AdamW's learning rate and decay instead of its own, on the "
        f"seeds that tune. {AT_AN_END}",
        (
            "rule",
            "lr",
            "decay",
            "test error",
            "more than AdamW, in pairs",
            "can be told from",
            "learning rates near the best",
            "more with AdamW's setting",
        ),
        tuple(rows),
    )

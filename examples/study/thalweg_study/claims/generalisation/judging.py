"""Judgement of the runs: verdicts on paired differences, and the table of figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg_study.claim import Table, Verdict
from thalweg_study.claims.generalisation.experiment import CLOSE
from thalweg_study.methods import METHODS as ALL_METHODS
from thalweg_study.rules import above, below
from thalweg_study.statistics import mean_interval
from thalweg_study.wording import AT_AN_END, NETWORKS, caution, choice, points

if TYPE_CHECKING:
    from thalweg_study.claims.generalisation.experiment import Runs

LITTLE = 0.003
"""A difference in test error that is called little: 0.3 points."""

ADVANTAGE = (
    "Holds if the whole interval of the paired difference, Adam + L2 minus AdamW, is above 0; else "
    f"does not hold if all of it is below {100 * LITTLE:g} percentage points, which is little or "
    "nothing; undecided otherwise."
)


def verdicts(runs: Runs) -> tuple[Verdict, ...]:
    """Judge what the paper says of AdamW against Adam + L2 and SGD with momentum."""
    return _at_the_end(runs), _at_equal_loss(runs), _with_sgd(runs)


def _at_the_end(runs: Runs) -> Verdict:
    difference = runs.difference("adam", "adamw")
    return Verdict(
        f"AdamW generalises better than Adam + L2 ({NETWORKS[runs.model]}).",
        ADVANTAGE,
        above(difference, 0, fails_below=LITTLE),
        f"Adam + L2 minus AdamW: {points(difference)} percentage points of test error."
        + _caution(runs, "adam", "adamw"),
    )


def _at_equal_loss(runs: Runs) -> Verdict:
    difference = runs.difference_at_equal_loss("adam", "adamw")
    on_the_way = runs.difference_on_the_way("adam", "adamw")
    told = (
        f"No runs of Adam + L2 end within {CLOSE:g} times the training loss of AdamW's best"
        if difference is None
        else f"Adam + L2 minus AdamW where runs end with equal training loss: {points(difference)} "
        "percentage points of test error"
    )
    return Verdict(
        "AdamW generalises better than Adam + L2 at equal training loss too, not only because it "
        f"fits better ({NETWORKS[runs.model]}).",
        f"{ADVANTAGE} Compared are runs that end with equal training loss, at most {CLOSE:g} times "
        "more or less; undecided if there are none.",
        "undecided" if difference is None else above(difference, 0, fails_below=LITTLE),
        f"{told}; on the way of the best runs, where learning rates differ, {points(on_the_way)}."
        + _caution(runs, "adamw"),
    )


def _with_sgd(runs: Runs) -> Verdict:
    difference = runs.difference("adamw", "sgdw")
    return Verdict(
        f"AdamW competes with SGD with momentum, as SGDW ({NETWORKS[runs.model]}).",
        "Holds if the whole interval of the paired difference, AdamW minus SGDW, is below "
        f"{100 * LITTLE:g} percentage points; else does not hold if all of it is above 0; "
        "undecided otherwise.",
        below(difference, LITTLE, fails_above=0),
        f"AdamW minus SGDW: {points(difference)} percentage points of test error."
        + _caution(runs, "adamw", "sgdw"),
    )


def _caution(runs: Runs, *methods: str) -> str:
    """Say of which methods the best may not have been found."""
    return caution([ALL_METHODS[method].label for method in methods if runs.maps[method].ends])


def table(runs: Runs) -> Table:
    """Return the best setting of every method and how it did on the seeds that compare."""
    rows = []
    for method, of in runs.maps.items():
        lr, decay = of.tuned()
        losses = [record["train_loss"] for record in runs.records[method]]
        rows.append(
            (
                ALL_METHODS[method].label,
                choice(lr, of.grid.lrs),
                choice(decay, of.grid.decays),
                f"{mean_interval(losses):.3g}",
                f"{mean_interval(runs.test_errors(method)).scaled(100):.2f}",
                "-" if method == "adamw" else points(runs.difference(method, "adamw")),
            )
        )
    return Table(
        f"The {NETWORKS[runs.model]} with the best setting of every method, over "
        f"{len(runs.records['adamw'])} seeds that tuned nothing; means with intervals of 95 %, "
        f"errors in percent. {AT_AN_END}",
        ("method", "lr", "decay", "training loss", "test error", "more than AdamW, in pairs"),
        tuple(rows),
    )

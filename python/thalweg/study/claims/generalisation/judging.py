"""What the runs say: verdicts on paired differences, and the table of figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg.study.claim import Table, Verdict
from thalweg.study.methods import METHODS as ALL_METHODS
from thalweg.study.rules import above, below
from thalweg.study.statistics import mean_interval

if TYPE_CHECKING:
    from thalweg.study.claims.generalisation.runs import Runs

LITTLE = 0.003
"""A difference in test error that is called little: 0.3 points."""

MODELS = {"mlp": "multilayer perceptron", "conv": "convolutional network"}
ADVANTAGE = (
    "It holds if the whole interval of the paired difference, Adam + L2 minus AdamW, is above "
    "zero, and does not if all of it is below 0.3 points: then there is little or nothing."
)


def verdicts(runs: Runs) -> list[Verdict]:
    """Judge what the paper says of AdamW against Adam + L2 and SGD with momentum."""
    name = MODELS[runs.model]
    at_the_end = runs.difference("adam", "adamw")
    at_equal_loss = runs.difference_at_equal_loss("adam", "adamw")
    to_sgd = runs.difference("adamw", "sgdw")
    return [
        Verdict(
            f"AdamW generalises better than Adam + L2 ({name}).",
            ADVANTAGE,
            above(at_the_end, 0, fails_below=LITTLE),
            f"Adam + L2 has {at_the_end.scaled(100):.2f} points more test error.",
        ),
        Verdict(
            f"It does so at equal training loss, not only because it fits better ({name}).",
            ADVANTAGE,
            above(at_equal_loss, 0, fails_below=LITTLE),
            f"Adam + L2 has {at_equal_loss.scaled(100):.2f} points more test error where training "
            "losses are equal.",
        ),
        Verdict(
            f"AdamW competes with SGD with momentum, as SGDW ({name}).",
            "It holds if the whole interval of the paired difference, AdamW minus SGDW, is below "
            "0.3 points, and does not if all of it is above zero.",
            below(to_sgd, LITTLE, fails_above=0),
            f"AdamW has {to_sgd.scaled(100):.2f} points more test error than SGDW.",
        ),
    ]


def table(runs: Runs) -> Table:
    """Return the best setting of every method and how it did on the seeds that compare."""
    rows = []
    for method, of in runs.maps.items():
        lr, decay = of.tuned()
        losses = [record["train_loss"] for record in runs.records[method]]
        rows.append(
            (
                ALL_METHODS[method].label,
                f"{lr:g}",
                f"{decay:g}",
                f"{mean_interval(losses):.3g}",
                f"{mean_interval(runs.test_errors(method)).scaled(100):.2f}",
                "-" if method == "adamw" else f"{runs.difference(method, 'adamw').scaled(100):.2f}",
            )
        )
    return Table(
        f"The {MODELS[runs.model]} with the best setting of every method, over "
        f"{len(runs.records['adamw'])} seeds that tuned nothing; means with intervals of 95 %, "
        "errors in percent.",
        ("method", "lr", "decay", "training loss", "test error", "more than AdamW, in pairs"),
        tuple(rows),
    )

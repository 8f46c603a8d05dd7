"""Times of a pass of MLPClassifier over the digits, with scikit-learn's Adam and with thalweg's.

``python benches/sklearn_mlp.py``. Both do the same forward and backward passes; a check before the
timing ensures that their losses are the same.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import neural_network
from sklearn.datasets import load_digits

from thalweg.cli.arguments import integer
from thalweg.cli.bench.display import print_table
from thalweg.cli.bench.rounds import race
from thalweg.cli.bench.stepper import Step
from thalweg.cli.bench.tables import format_time, three_digits
from thalweg.sklearn import MLPClassifier, epsilon_hat

if TYPE_CHECKING:
    from collections.abc import Sequence

NETWORKS = {
    "784-1000-200-10, 988,210 parameters": (28, (1000, 200)),
    "64-100-10, 7,510 parameters": (8, (100,)),
}
RULE: dict[str, Any] = {"solver": "adam", "alpha": 1e-4, "batch_size": 200, "random_state": 0}
KINDS = {
    "scikit-learn": partial(neural_network.MLPClassifier, **RULE),
    "thalweg": partial(MLPClassifier, **RULE, epsilon=epsilon_hat(1e-8)),
    "thalweg, adamw": partial(MLPClassifier, **{**RULE, "solver": "adamw", "alpha": 0.0}),
}
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}


def digits(side: int, dtype: str) -> tuple[Any, Any]:
    """The 1,797 digits as images of `side` by `side` pixels from 0 to 1, and their labels."""
    pixels, names = load_digits(return_X_y=True)
    where = np.arange(side) * 8 // side
    pictures = pixels.reshape(-1, 8, 8)[:, where][:, :, where] / 16.0
    return pictures.reshape(len(pixels), side * side).astype(dtype), names


def check(models: dict[str, Any], dtype: str) -> None:
    """End the benchmark unless the first two models have the same losses."""
    theirs, ours, _ = (model.loss_curve_ for model in models.values())
    if not np.allclose(ours, theirs, rtol=TOLERANCE[dtype], atol=0):
        sys.exit(f"the losses differ: {theirs} and {ours}; nothing was timed")


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table for each network and type."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=integer(1), default=15, help="samples of each (default 15)"
    )
    parser.add_argument("--small", action="store_true", help="the small network only")
    given = parser.parse_args(argv)
    for title, (side, hidden) in [*NETWORKS.items()][given.small :]:
        for dtype in TOLERANCE:
            x, y = digits(side, dtype)
            models = {name: make(hidden_layer_sizes=hidden) for name, make in KINDS.items()}
            for model in models.values():
                for _ in range(3):
                    model.partial_fit(x, y, classes=range(10))
            check(models, dtype)
            passes = {name: Step(partial(m.partial_fit, x, y)) for name, m in models.items()}
            times = race(passes, given.rounds)
            base = times["scikit-learn"]
            cells = [
                (name, format_time(taken.median), three_digits(base.ratio(taken)))
                for name, taken in times.items()
            ]
            headings = ("9 batches of 200", "time", "speed")
            print_table(f"{title}, {dtype}", headings, cells)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Logistic regression on handwritten digits through `scipy.optimize.minimize`.

L-BFGS-B and AdamW minimize the same regularised objective of 650 variables, on all 1,257 training
images and on mini-batches of 64. On all images, both find the same minimum, L-BFGS-B with a third
of the evaluations. On mini-batches, AdamW comes close to the minimum. L-BFGS-B does not, because
its line search compares values of different batches.

Run it with ``python examples/scipy_digits.py``; it takes a second. Needs SciPy and scikit-learn.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import thalweg.scipy
from thalweg import schedule

PENALTY = 1e-3
BATCH = 64
ITERATIONS = 1000


class Figures(NamedTuple):
    """Results of a run: objective on all training images, accuracy on the test images."""

    objective: float
    accuracy: float
    images: int
    """Training images read, counting repeated reads."""


class Digits:
    """Images of 8 x 8 pixels with a constant feature for the bias, and their labels."""

    def __init__(self) -> None:
        pixels, labels = load_digits(return_X_y=True)
        images = np.column_stack([pixels / 16, np.ones(len(pixels))])
        split = train_test_split(images, labels, test_size=0.3, random_state=0, stratify=labels)
        self.images, self.test_images, labels, self.test_labels = split
        self.targets = np.eye(10)[labels]
        self.read = 0

    def loss(self, x: Any, rows: Any = slice(None)) -> tuple[float, Any]:
        """Mean cross-entropy of the images in `rows` plus the penalty, and its gradient."""
        images, targets = self.images[rows], self.targets[rows]
        self.read += len(images)
        logits = images @ x.reshape(-1, 10)
        logits -= logits.max(axis=1, keepdims=True)
        log_sums = np.log(np.exp(logits).sum(axis=1))
        value = (log_sums - (logits * targets).sum(axis=1)).mean() + PENALTY / 2 * x @ x
        errors = np.exp(logits - log_sums[:, None]) - targets
        return value, (images.T @ errors / len(images)).ravel() + PENALTY * x

    def accuracy(self, x: Any) -> float:
        """Share of test images that are classified correctly."""
        told = (self.test_images @ x.reshape(-1, 10)).argmax(axis=1)
        return float((told == self.test_labels).mean())


def run(method: Any, options: dict[str, Any], *, sampled: bool) -> Figures:
    """Minimize from zero, on all images or, if `sampled`, on random mini-batches."""
    digits = Digits()
    rng = np.random.default_rng(0)

    def objective(x: Any) -> tuple[float, Any]:
        return digits.loss(
            x, rng.integers(0, len(digits.images), BATCH) if sampled else slice(None)
        )

    x0 = np.zeros(digits.images.shape[1] * 10)
    found = minimize(objective, x0, jac=True, method=method, options=options)
    read = digits.read
    return Figures(float(digits.loss(found.x)[0]), digits.accuracy(found.x), read)


def main() -> dict[str, Figures]:
    """Run both methods on all images and on mini-batches; print and return the results."""
    lr = 0.05 * schedule.cosine(total=ITERATIONS)
    sampled = {"lr": lr, "maxiter": ITERATIONS, "stochastic": True}
    figures = {
        "L-BFGS-B": run("L-BFGS-B", {}, sampled=False),
        "adamw": run(thalweg.scipy.adamw, {"lr": 0.1}, sampled=False),
        "L-BFGS-B, mini-batches": run("L-BFGS-B", {}, sampled=True),
        "adamw, mini-batches": run(thalweg.scipy.adamw, sampled, sampled=True),
    }
    print(f"{'':24}{'objective':>10}{'accuracy':>10}{'images read':>13}")
    for name, (objective, accuracy, images) in figures.items():
        print(f"{name:24}{objective:10.5f}{accuracy:10.3f}{images:13,}")
    return figures


if __name__ == "__main__":
    main()

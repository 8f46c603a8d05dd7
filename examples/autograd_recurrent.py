"""A gated recurrent network that reads handwritten digits row by row.

autograd differentiates it through time, thalweg trains it. Needs autograd and scikit-learn (for the
data). Takes a few seconds on one core.
"""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad
from sklearn.datasets import load_digits

import thalweg

HIDDEN, EPOCHS, BATCH = 40, 10, 32


def digits(rng: np.random.Generator) -> tuple[Any, ...]:
    """Sequences of 8 rows of 8 pixels, and their labels; 80 % for training, 20 % for testing."""
    images, labels = load_digits(return_X_y=True)
    rows = (images / 8 - 1).reshape(-1, 8, 8)
    order = rng.permutation(len(rows))
    train, test = np.split(order, [len(order) * 4 // 5])
    return rows[train], labels[train], rows[test], labels[test]


def initial(rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Float64 parameters by layer; weights have the variance 1/inputs."""

    def layer(inputs: int, outputs: int) -> dict[str, Any]:
        w = rng.standard_normal((inputs, outputs)) / np.sqrt(inputs)
        return {"w": w, "b": np.zeros(outputs)}

    inputs = 8 + HIDDEN
    return {
        "reset": layer(inputs, HIDDEN),
        "update": layer(inputs, HIDDEN),
        "candidate": layer(inputs, HIDDEN),
        "out": layer(HIDDEN, 10),
    }


def linear(x: Any, w: Any, b: Any) -> Any:
    """An affine layer, ``x @ w + b``."""
    return anp.dot(x, w) + b


def sigmoid(x: Any) -> Any:
    """The logistic function, through `tanh`, which cannot overflow."""
    return 0.5 * (anp.tanh(0.5 * x) + 1)


def logits(params: dict[str, dict[str, Any]], sequences: Any) -> Any:
    """Scores of the ten digits, from the hidden state after the last row."""
    hidden = anp.zeros((len(sequences), HIDDEN))
    for t in range(sequences.shape[1]):
        row = sequences[:, t]
        both = anp.concatenate([row, hidden], axis=1)
        reset = sigmoid(linear(both, **params["reset"]))
        update = sigmoid(linear(both, **params["update"]))
        kept = anp.concatenate([row, reset * hidden], axis=1)
        candidate = anp.tanh(linear(kept, **params["candidate"]))
        hidden = update * hidden + (1 - update) * candidate
    return linear(hidden, **params["out"])


def loss(params: dict[str, dict[str, Any]], sequences: Any, labels: Any) -> Any:
    """Mean cross entropy."""
    scores = logits(params, sequences)
    scores = scores - anp.max(scores, axis=1, keepdims=True)
    right = scores[anp.arange(len(labels)), labels]
    return anp.mean(anp.log(anp.sum(anp.exp(scores), axis=1)) - right)


def main() -> float:
    """Train; return the accuracy on the test sequences."""
    rng = np.random.default_rng(0)
    sequences, labels, test_sequences, test_labels = digits(rng)
    params = initial(rng)

    steps = EPOCHS * -(-len(sequences) // BATCH)
    lr = 1e-2 * thalweg.schedule.cosine(total=steps, warmup=steps // 20)
    opt = thalweg.AdamW(params, lr=lr, weight_decay=0.05, groups=[thalweg.no_decay()])
    print(opt)

    loss_and_grads = value_and_grad(loss)
    for epoch in range(1, EPOCHS + 1):
        total = 0.0
        order = rng.permutation(len(sequences))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            value, grads = loss_and_grads(params, sequences[batch], labels[batch])
            opt.step(grads, max_norm=1.0)  # gradients through time can be large
            total += value * len(batch)
        print(f"epoch {epoch:2}: train loss {total / len(order):.4f}")

    right = logits(params, test_sequences).argmax(axis=1) == test_labels
    accuracy = float(right.mean())
    print(f"test accuracy {accuracy:.1%}, {right.sum()} of {len(right)}")
    return accuracy


if __name__ == "__main__":
    main()

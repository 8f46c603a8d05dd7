"""A convolutional network on handwritten digits: autograd differentiates it, thalweg trains it.

Needs autograd and scikit-learn (for the data). Takes a few seconds on one core.
"""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad
from sklearn.datasets import load_digits

import thalweg

EPOCHS, BATCH = 10, 32


def digits(rng: np.random.Generator) -> tuple[Any, ...]:
    """Images of 8 x 8 with one channel, and their labels; 80 % for training, 20 % for testing."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    order = rng.permutation(len(images))
    train, test = np.split(order, [len(order) * 4 // 5])
    return images[train], labels[train], images[test], labels[test]


def initial(rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Float32 parameters by layer; a kernel is (height, width, channels in, channels out)."""
    shapes = {"conv1": (3, 3, 1, 8), "conv2": (3, 3, 8, 16), "dense": (4 * 4 * 16, 10)}
    return {
        layer: {
            "w": (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))).astype("f4"),
            "b": np.zeros(shape[-1], "f4"),
        }
        for layer, shape in shapes.items()
    }


def convolve(x: Any, w: Any, b: Any) -> Any:
    """Convolution without padding of `x`, (images, height, width, channels), as one product."""
    height, width = x.shape[1] - w.shape[0] + 1, x.shape[2] - w.shape[1] + 1
    shifts = [(i, j) for i in range(w.shape[0]) for j in range(w.shape[1])]
    patches = anp.concatenate([x[:, i : i + height, j : j + width] for i, j in shifts], axis=3)
    return anp.dot(patches, anp.reshape(w, (-1, w.shape[3]))) + b


def logits(params: dict[str, dict[str, Any]], images: Any) -> Any:
    """Scores of the ten digits."""
    x = anp.maximum(convolve(images, **params["conv1"]), 0)  # 6 x 6
    x = anp.maximum(convolve(x, **params["conv2"]), 0)  # 4 x 4
    return anp.dot(anp.reshape(x, (len(x), -1)), params["dense"]["w"]) + params["dense"]["b"]


def loss(params: dict[str, dict[str, Any]], images: Any, labels: Any) -> Any:
    """Mean cross entropy."""
    scores = logits(params, images)
    scores = scores - anp.max(scores, axis=1, keepdims=True)
    right = scores[anp.arange(len(labels)), labels]
    return anp.mean(anp.log(anp.sum(anp.exp(scores), axis=1)) - right)


def main() -> float:
    """Train; return the accuracy on the test images."""
    rng = np.random.default_rng(0)
    images, labels, test_images, test_labels = digits(rng)
    params = initial(rng)

    steps = EPOCHS * -(-len(images) // BATCH)
    lr = 5e-3 * thalweg.schedule.cosine(total=steps, warmup=steps // 20)
    opt = thalweg.AdamW(params, lr=lr, weight_decay=0.05, groups=[thalweg.no_decay()])
    print(opt)

    loss_and_grads = value_and_grad(loss)
    for epoch in range(1, EPOCHS + 1):
        total = 0.0
        order = rng.permutation(len(images))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            value, grads = loss_and_grads(params, images[batch], labels[batch])
            opt.step(grads, max_norm=1.0)
            total += value * len(batch)
        print(f"epoch {epoch:2}: train loss {total / len(order):.4f}")

    right = logits(params, test_images).argmax(axis=1) == test_labels
    accuracy = float(right.mean())
    print(f"test accuracy {accuracy:.1%}, {right.sum()} of {len(right)}")
    return accuracy


if __name__ == "__main__":
    main()

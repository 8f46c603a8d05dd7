"""A convolutional network on handwritten digits: JAX compiles its gradients, thalweg trains it.

The parameters stay NumPy arrays. Needs JAX and scikit-learn (for the data). Takes a few seconds on
one core, mostly for compilation.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
    shapes = {"conv1": (3, 3, 1, 16), "conv2": (3, 3, 16, 32), "dense": (4 * 4 * 32, 10)}
    return {
        layer: {
            "w": (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))).astype("f4"),
            "b": np.zeros(shape[-1], "f4"),
        }
        for layer, shape in shapes.items()
    }


def convolve(x: Any, w: Any, b: Any) -> Any:
    """Convolution without padding of (images, height, width, channels)."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=layout) + b


def logits(params: dict[str, dict[str, Any]], images: Any) -> Any:
    """Scores of the ten digits."""
    x = jax.nn.relu(convolve(images, **params["conv1"]))  # 6 x 6
    x = jax.nn.relu(convolve(x, **params["conv2"]))  # 4 x 4
    return x.reshape(len(x), -1) @ params["dense"]["w"] + params["dense"]["b"]


@jax.jit
@jax.value_and_grad
def loss_and_grads(params: dict[str, dict[str, Any]], images: Any, labels: Any) -> Any:
    """Mean cross entropy, and its gradients with respect to the parameters."""
    log_p = jax.nn.log_softmax(logits(params, images))
    return -jnp.mean(log_p[jnp.arange(len(labels)), labels])


def main() -> float:
    """Train; return the accuracy on the test images."""
    rng = np.random.default_rng(0)
    images, labels, test_images, test_labels = digits(rng)
    params = initial(rng)

    steps = EPOCHS * (len(images) // BATCH)
    lr = 3e-3 * thalweg.schedule.cosine(total=steps, warmup=steps // 20)
    opt = thalweg.AdamW(params, lr=lr, weight_decay=0.05, groups=[thalweg.no_decay()])
    print(opt)

    for epoch in range(1, EPOCHS + 1):
        total = 0.0
        order = rng.permutation(len(images))[: len(images) // BATCH * BATCH]
        for batch in order.reshape(-1, BATCH):  # equal shapes, so that JAX compiles once
            value, grads = loss_and_grads(params, images[batch], labels[batch])
            opt.step(grads)
            total += float(value) * BATCH
        print(f"epoch {epoch:2}: train loss {total / len(order):.4f}")

    right = np.asarray(logits(params, test_images)).argmax(axis=1) == test_labels
    accuracy = float(right.mean())
    print(f"test accuracy {accuracy:.1%}, {right.sum()} of {len(right)}")
    return accuracy


if __name__ == "__main__":
    main()

"""Layers: each a function forward, and one that takes the gradient back through it.

Pictures are (count, height, width, channels); a layer's parameters are ``w`` and ``b``.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Integers: TypeAlias = NDArray[np.integer[Any]]
Layer: TypeAlias = dict[str, Floats]


def he_layer(
    shape: tuple[int, ...], generator: np.random.Generator, dtype: DTypeLike = np.float32
) -> Layer:
    """Draw weights of variance ``2 / fan_in``, which keeps a ReLU layer's output at unit scale.

    The last axis of ``shape`` is what comes out; the others are what each of it sees.
    """
    weights = generator.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))
    return {"w": weights.astype(dtype), "b": np.zeros(shape[-1], dtype)}


def affine(layer: Layer, inputs: Floats) -> Floats:
    """Return ``inputs @ w + b``."""
    outputs: Floats = inputs @ layer["w"] + layer["b"]
    return outputs


def affine_gradients(inputs: Floats, to_outputs: Floats) -> Layer:
    """Return the gradients of an affine layer's parameters."""
    return {"w": inputs.T @ to_outputs, "b": to_outputs.sum(axis=0)}


def relu(values: Floats) -> Floats:
    """Return what is positive, zero elsewhere."""
    return np.maximum(values, 0)


def windows(pictures: Floats, size: int) -> Floats:
    """Return the square of ``size`` (odd) around every pixel, flat; beyond the edge is zero.

    (count, height, width, channels) becomes (count, height, width, size * size * channels).
    """
    margin = size // 2
    padded = np.pad(pictures, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    count, height, width, channels = pictures.shape
    views = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    # The windows' axes come last; the weights have (size, size, channels).
    flat: Floats = views.transpose(0, 1, 2, 4, 5, 3).reshape(
        count, height, width, size * size * channels
    )
    return flat


def windows_backward(to_windows: Floats, size: int, channels: int) -> Floats:
    """Take a gradient back through `windows`: every pixel sums what its windows send it."""
    count, height, width, _ = to_windows.shape
    margin = size // 2
    padded = np.zeros((count, height + 2 * margin, width + 2 * margin, channels), to_windows.dtype)
    parts = to_windows.reshape(count, height, width, size, size, channels)
    for row in range(size):
        for column in range(size):
            padded[:, row : row + height, column : column + width] += parts[:, :, :, row, column]
    return padded[:, margin : margin + height, margin : margin + width]


def max_pool(pictures: Floats) -> tuple[Floats, Floats]:
    """Return the largest of every 2 by 2 pixels, and which they are, as shares that sum to one.

    An odd row or column at the end is left out.
    """
    count, height, width, channels = pictures.shape
    blocks = pictures[:, : height // 2 * 2, : width // 2 * 2].reshape(
        count, height // 2, 2, width // 2, 2, channels
    )
    largest = blocks.max(axis=(2, 4), keepdims=True)
    chosen = (blocks == largest).astype(pictures.dtype)
    # Equal ones share the gradient, which behind a ReLU are mostly zeros.
    chosen /= chosen.sum(axis=(2, 4), keepdims=True)
    return largest[:, :, 0, :, 0], chosen


def max_pool_backward(to_pooled: Floats, chosen: Floats, shape: tuple[int, ...]) -> Floats:
    """Take a gradient back through `max_pool` of pictures of ``shape``."""
    count, rows, _, columns, _, channels = chosen.shape
    to_pictures = np.zeros(shape, to_pooled.dtype)
    to_pictures[:, : 2 * rows, : 2 * columns] = (
        chosen * to_pooled[:, :, None, :, None, :]
    ).reshape(count, 2 * rows, 2 * columns, channels)
    return to_pictures


def log_softmax(logits: Floats) -> Floats:
    """Return the logarithms of the probabilities of the classes."""
    # The largest logit is taken out first, so that exp cannot overflow.
    shifted: Floats = logits - logits.max(axis=1, keepdims=True)
    log_probabilities: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probabilities


def cross_entropy(log_probabilities: Floats, labels: Integers) -> float:
    """Return the mean of minus the logarithm of the probability of the right class."""
    return -float(log_probabilities[np.arange(len(labels)), labels].mean())


def cross_entropy_backward(log_probabilities: Floats, labels: Integers) -> Floats:
    """Return the gradient of `cross_entropy` by the logits of `log_softmax`."""
    to_logits = np.exp(log_probabilities)
    to_logits[np.arange(len(labels)), labels] -= 1
    to_logits /= len(labels)
    return to_logits

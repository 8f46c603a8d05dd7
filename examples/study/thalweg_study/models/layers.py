"""Layers: each a function forward, and one that takes the gradient back through it.

A layer's parameters are ``w`` and ``b``. Pictures are (channels, height, width, count), so that
what NumPy copies, compares and adds lies in long rows; with channels last a step took twice the
time.
"""

from __future__ import annotations

from functools import reduce
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Integers: TypeAlias = NDArray[np.integer[Any]]
Layer: TypeAlias = dict[str, Floats]
Parameters: TypeAlias = dict[str, Layer]


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
    """Return positive values as they are, zero elsewhere."""
    return np.maximum(values, 0)


def windows(pictures: Floats, size: int) -> Floats:
    """Return the square of ``size`` (odd) around every pixel; beyond the edge is zero.

    (channels, height, width, count) becomes (size, size, channels, height, width, count).
    """
    _, height, width, _ = pictures.shape
    margin = size // 2
    padded = _padded(pictures.shape, margin, pictures.dtype)
    padded[:, margin : margin + height, margin : margin + width] = pictures
    views = np.empty((size, size, *pictures.shape), pictures.dtype)
    for row, column in product(range(size), repeat=2):
        views[row, column] = padded[:, row : row + height, column : column + width]
    return views


def windows_backward(to_windows: Floats) -> Floats:
    """Take a gradient back through `windows`: every pixel sums what its windows send it."""
    size, _, _, height, width, _ = to_windows.shape
    margin = size // 2
    padded = _padded(to_windows.shape[2:], margin, to_windows.dtype)
    for row, column in product(range(size), repeat=2):
        padded[:, row : row + height, column : column + width] += to_windows[row, column]
    return padded[:, margin : margin + height, margin : margin + width]


def _padded(shape: tuple[int, ...], margin: int, dtype: DTypeLike) -> Floats:
    channels, height, width, count = shape
    return np.zeros((channels, height + 2 * margin, width + 2 * margin, count), dtype)


def max_pool(pictures: Floats) -> Floats:
    """Return the largest of every 2 by 2 pixels; an odd row or column at the end is left out."""
    largest: Floats = reduce(np.maximum, _corners(pictures))
    return largest


def max_pool_backward(pictures: Floats, pooled: Floats, to_pooled: Floats) -> Floats:
    """Take a gradient back through ``pooled = max_pool(pictures)``."""
    chosen = [(corner == pooled).astype(to_pooled.dtype) for corner in _corners(pictures)]
    # Equal ones share the gradient: where a picture is blank, all four are.
    share = to_pooled / sum(chosen)
    to_pictures = np.zeros_like(pictures)
    for to_corner, is_largest in zip(_corners(to_pictures), chosen, strict=True):
        np.multiply(share, is_largest, out=to_corner)
    return to_pictures


def _corners(pictures: Floats) -> list[Floats]:
    """View the first, second, third and last of every 2 by 2 pixels."""
    _, height, width, _ = pictures.shape
    return [
        pictures[:, row : height // 2 * 2 : 2, column : width // 2 * 2 : 2]
        for row, column in product((0, 1), repeat=2)
    ]


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

"""A multilayer perceptron with two hidden layers in plain NumPy: forward, loss, backward.

Independent of thalweg. Results have the dtype of the parameters.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Integers: TypeAlias = NDArray[np.integer[Any]]
Layer: TypeAlias = dict[str, Floats]
Parameters: TypeAlias = dict[str, Layer]

NAMES = ("hidden1", "hidden2", "output")
SIZES = (64, 128, 64, 10)
"""Inputs, units of the hidden layers, classes."""


def initial(generator: np.random.Generator) -> Parameters:
    """Draw float32 weights of variance ``2 / inputs``, which keeps the scale behind a ReLU."""
    return {
        name: {
            "w": (generator.standard_normal(shape) * np.sqrt(2 / shape[0])).astype(np.float32),
            "b": np.zeros(shape[1], np.float32),
        }
        for name, shape in zip(NAMES, pairwise(SIZES), strict=True)
    }


def log_probabilities(parameters: Parameters, inputs: Floats) -> Floats:
    """Return the log-probabilities of the classes, of shape (count, classes)."""
    return _forward(parameters, inputs)[-1]


def cross_entropy(log_probabilities: Floats, labels: Integers) -> float:
    """Return the mean negative log-probability of the true class."""
    return -float(log_probabilities[np.arange(len(labels)), labels].mean())


def gradients(parameters: Parameters, inputs: Floats, labels: Integers) -> Parameters:
    """Return the gradients of the cross-entropy of a batch, a tree like ``parameters``."""
    active1, active2, log_probabilities = _forward(parameters, inputs)
    to_output = np.exp(log_probabilities)
    to_output[np.arange(len(labels)), labels] -= 1
    to_output /= len(labels)
    to_hidden2 = (to_output @ parameters["output"]["w"].T) * (active2 > 0)
    to_hidden1 = (to_hidden2 @ parameters["hidden2"]["w"].T) * (active1 > 0)
    return {
        "hidden1": _gradients(inputs, to_hidden1),
        "hidden2": _gradients(active1, to_hidden2),
        "output": _gradients(active2, to_output),
    }


def _forward(parameters: Parameters, inputs: Floats) -> tuple[Floats, Floats, Floats]:
    """Return both hidden layers after their ReLU, and the log-probabilities."""
    active1 = np.maximum(_affine(parameters["hidden1"], inputs), 0)
    active2 = np.maximum(_affine(parameters["hidden2"], active1), 0)
    logits = _affine(parameters["output"], active2)
    # The largest logit is subtracted first, so that exp cannot overflow.
    shifted = logits - logits.max(axis=1, keepdims=True)
    return active1, active2, shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _affine(layer: Layer, inputs: Floats) -> Floats:
    outputs: Floats = inputs @ layer["w"] + layer["b"]
    return outputs


def _gradients(inputs: Floats, to_outputs: Floats) -> Layer:
    """Return the gradients of an affine layer's parameters."""
    return {"w": inputs.T @ to_outputs, "b": to_outputs.sum(axis=0)}

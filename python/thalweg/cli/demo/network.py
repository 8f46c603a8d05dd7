"""The network of the demo, forward and backward in plain NumPy.

Nothing here knows thalweg: this is the code that a user of thalweg writes. All of it follows
the dtype it is given, so that the gradients can be checked in float64.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Integers: TypeAlias = NDArray[np.integer[Any]]
Layer: TypeAlias = dict[str, Floats]
Parameters: TypeAlias = dict[str, Layer]

LAYERS = ("hidden1", "hidden2", "output")


def initial_parameters(
    sizes: tuple[int, int, int, int],
    generator: np.random.Generator,
    dtype: DTypeLike = np.float32,
) -> Parameters:
    """Draw the weights of a network with ``sizes`` inputs, hidden units twice, and outputs."""
    return {
        name: _he_layer(fan_in, fan_out, generator, dtype)
        for name, fan_in, fan_out in zip(LAYERS, sizes[:-1], sizes[1:], strict=True)
    }


def loss_and_gradients(
    parameters: Parameters, inputs: Floats, labels: Integers
) -> tuple[float, Parameters]:
    """Return the mean cross-entropy of a batch and its gradients, a tree like ``parameters``."""
    active1, active2, log_probabilities = _forward(parameters, inputs)
    loss = _cross_entropy(log_probabilities, labels)

    to_output = np.exp(log_probabilities)
    to_output[np.arange(len(labels)), labels] -= 1
    to_output /= len(labels)
    to_hidden2 = (to_output @ parameters["output"]["w"].T) * (active2 > 0)
    to_hidden1 = (to_hidden2 @ parameters["hidden2"]["w"].T) * (active1 > 0)
    return loss, {
        "hidden1": _affine_gradients(inputs, to_hidden1),
        "hidden2": _affine_gradients(active1, to_hidden2),
        "output": _affine_gradients(active2, to_output),
    }


def loss_and_accuracy(
    parameters: Parameters, inputs: Floats, labels: Integers
) -> tuple[float, float]:
    """Return the mean cross-entropy and the share of right answers, without gradients."""
    _, _, log_probabilities = _forward(parameters, inputs)
    accuracy = (log_probabilities.argmax(axis=1) == labels).mean()
    return _cross_entropy(log_probabilities, labels), float(accuracy)


def _he_layer(fan_in: int, fan_out: int, generator: np.random.Generator, dtype: DTypeLike) -> Layer:
    """Draw weights of variance ``2 / fan_in``, which keeps a ReLU layer's output at unit scale."""
    weights = generator.standard_normal((fan_in, fan_out)) * np.sqrt(2 / fan_in)
    return {"w": weights.astype(dtype), "b": np.zeros(fan_out, dtype)}


def _forward(parameters: Parameters, inputs: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the activations of both hidden layers and the log-probabilities of the classes."""
    active1 = _relu(_affine(parameters["hidden1"], inputs))
    active2 = _relu(_affine(parameters["hidden2"], active1))
    return active1, active2, _log_softmax(_affine(parameters["output"], active2))


def _affine(layer: Layer, inputs: Floats) -> Floats:
    outputs: Floats = inputs @ layer["w"] + layer["b"]
    return outputs


def _affine_gradients(inputs: Floats, to_outputs: Floats) -> Layer:
    return {"w": inputs.T @ to_outputs, "b": to_outputs.sum(axis=0)}


def _relu(values: Floats) -> Floats:
    return np.maximum(values, 0)


def _log_softmax(logits: Floats) -> Floats:
    # The largest logit is taken out first, so that exp cannot overflow.
    shifted: Floats = logits - logits.max(axis=1, keepdims=True)
    log_probabilities: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probabilities


def _cross_entropy(log_probabilities: Floats, labels: Integers) -> float:
    return -float(log_probabilities[np.arange(len(labels)), labels].mean())

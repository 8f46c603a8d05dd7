"""A small convolutional network: filters and pooling, twice, then one layer to the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thalweg_study.models import layers

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from thalweg_study.models.layers import Floats, Integers, Layer, Parameters

SIZE = 3
"""Rows and columns of a filter."""

AT_ONCE = 100
"""Pictures whose windows stay in the cache, which makes it two to four times as fast to look."""


@dataclass(frozen=True)
class Conv:
    """For grey pictures (count, height, width), of at least 4 by 4 pixels."""

    height: int
    width: int
    filters: tuple[int, int]
    classes: int

    def initial(self, generator: np.random.Generator, dtype: DTypeLike = np.float32) -> Parameters:
        """Draw the first parameters."""
        first, second = self.filters
        features = second * (self.height // 4) * (self.width // 4)
        return {
            "conv1": layers.he_layer((SIZE, SIZE, 1, first), generator, dtype),
            "conv2": layers.he_layer((SIZE, SIZE, first, second), generator, dtype),
            "output": layers.he_layer((features, self.classes), generator, dtype),
        }

    def log_probabilities(self, parameters: Parameters, inputs: Floats) -> Floats:
        """Return the logarithms of the probabilities of the classes, (count, classes)."""
        parts = [inputs[start : start + AT_ONCE] for start in range(0, len(inputs), AT_ONCE)]
        return np.concatenate([self._forward(parameters, part)[-1] for part in parts])

    def loss_and_gradients(
        self, parameters: Parameters, inputs: Floats, labels: Integers
    ) -> tuple[float, Parameters]:
        """Return the mean cross-entropy of a batch and its gradients, like ``parameters``."""
        block1, block2, features, log_probabilities = self._forward(parameters, inputs)
        loss = layers.cross_entropy(log_probabilities, labels)
        to_output = layers.cross_entropy_backward(log_probabilities, labels)
        to_active2 = (parameters["output"]["w"] @ to_output.T).reshape(block2.active.shape)
        to_filtered2, conv2 = _block_backward(block2, to_active2)
        to_active1 = _filters_backward(parameters["conv2"], to_filtered2)
        _, conv1 = _block_backward(block1, to_active1)
        output = layers.affine_gradients(features, to_output)
        return loss, {"conv1": conv1, "conv2": conv2, "output": output}

    def _forward(
        self, parameters: Parameters, inputs: Floats
    ) -> tuple[_Block, _Block, Floats, Floats]:
        block1 = _block(parameters["conv1"], inputs.transpose(1, 2, 0)[None])
        block2 = _block(parameters["conv2"], block1.active)
        features = block2.active.reshape(-1, len(inputs)).T
        output = layers.affine(parameters["output"], features)
        return block1, block2, features, layers.log_softmax(output)


@dataclass(frozen=True)
class _Block:
    """Intermediate results of filters, pooling, biases and ReLU, for the way back."""

    windows: Floats
    filtered: Floats
    pooled: Floats
    active: Floats


def _block(layer: Layer, pictures: Floats) -> _Block:
    windows = layers.windows(pictures, SIZE)
    filtered = np.tensordot(layer["w"], windows, ((0, 1, 2), (0, 1, 2)))
    pooled = layers.max_pool(filtered)
    # Biases and ReLU keep the order, so they can come after pooling, which leaves less to do.
    active = layers.relu(pooled + layer["b"][:, None, None, None])
    return _Block(windows, filtered, pooled, active)


def _block_backward(block: _Block, to_active: Floats) -> tuple[Floats, Layer]:
    """Return the gradient by the filtered pictures, and those of filters and biases."""
    to_pooled = to_active * (block.active > 0)
    to_filtered = layers.max_pool_backward(block.filtered, block.pooled, to_pooled)
    to_weights = np.tensordot(block.windows, to_filtered, ((3, 4, 5), (1, 2, 3)))
    return to_filtered, {"w": to_weights, "b": to_pooled.sum(axis=(1, 2, 3))}


def _filters_backward(layer: Layer, to_filtered: Floats) -> Floats:
    """Return the gradient by the pictures that were filtered."""
    return layers.windows_backward(np.tensordot(layer["w"], to_filtered, 1))

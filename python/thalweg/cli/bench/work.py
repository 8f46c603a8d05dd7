"""The work of a training loop between two steps: it empties the caches and wakes other threads.

A step that is only repeated finds its arrays, its code and its helper threads where it left them.
In a loop it does not: a forward and a backward pass come before it, and the threads of their
library may still hold the other cores.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 1024
"""Rows of a square matrix: three of them are larger than second-level caches."""


def numpy_product() -> Callable[[], object]:
    """Return a matrix product by NumPy's BLAS, on all of its threads."""
    matrix = np.full((SIZE, SIZE), 1e-3, np.float32)
    return partial(np.matmul, matrix, matrix, out=np.empty_like(matrix))


def torch_passes() -> Callable[[], object]:
    """Return a forward and a backward pass of a torch model, on all of torch's threads."""
    import torch  # noqa: PLC0415 - if it is installed

    model = torch.nn.Sequential(torch.nn.Linear(SIZE, SIZE), torch.nn.ReLU())
    inputs = torch.ones(SIZE // 2, SIZE)

    def run() -> None:
        model.zero_grad()
        model(inputs).square().mean().backward()

    return run

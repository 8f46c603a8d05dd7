"""The size of tensor of which memory holds one for each contender."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thalweg.cli.bench import limit
from thalweg.cli.errors import CommandError
from thalweg.machine import available_memory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thalweg.cli.bench.contenders import Contender

GIB = 2**30


def fitting_elements(wanted: int, contenders: Iterable[Contender]) -> int:
    """Return `wanted`, halved until all contenders fit into half of the memory available."""
    needed, available = bytes_per_element(contenders), available_memory()
    while wanted > 1 and 2 * wanted * needed > available:
        wanted //= 2
    return wanted


def check_fits(elements: int, contenders: Iterable[Contender]) -> None:
    """Raise `CommandError` if memory cannot hold `elements` parameters for each contender."""
    needed, available = elements * bytes_per_element(contenders), available_memory()
    if needed > available:
        raise CommandError(
            f"{elements:,} elements need {needed / GIB:.1f} GiB for all contenders together, "
            f"{available / GIB:.1f} GiB are available; reduce --elements or --contenders"
        )


def bytes_per_element(contenders: Iterable[Contender]) -> float:
    """Return the bytes a parameter that the contenders, their gradients and limits occupy."""
    contenders = list(contenders)
    original = np.dtype(np.float32).itemsize
    gradients = sum(dtype.itemsize for dtype in {contender.dtype for contender in contenders})
    traffics = [limit.FLOAT32_ADAMW, *(contender.traffic for contender in contenders)]
    return original + gradients + limit.memory(traffics) + sum(one.memory for one in contenders)

"""The models whose steps are measured: shapes, parameters and gradients."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from thalweg import compact
from thalweg.compact.decoding import BITS

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from thalweg.cli.bench.formulas import Arrays

SEED = 0
# Enough that the check's copy of a case runs on all threads if the case itself does.
CHECKED = 131_072


@dataclass(frozen=True)
class Case:
    """A model by the shapes of its tensors."""

    name: str
    title: str
    shapes: tuple[tuple[int, ...], ...]

    @property
    def elements(self) -> int:
        """Parameters in all."""
        return sum(map(prod, self.shapes))

    def small_copy(self) -> Case:
        """Return a case of the same kind that is quick to check: the first tensors, or rows."""
        kept: list[tuple[int, ...]] = []
        room = CHECKED
        for shape in self.shapes:
            if prod(shape) > room:
                break
            kept.append(shape)
            room -= prod(shape)
        if not kept:
            _, *columns = self.shapes[0]
            kept = [(max(1, CHECKED // prod(columns)), *columns)]
        return Case(self.name, self.title, tuple(kept))


def large(elements: int) -> Case:
    """Return the case of one large tensor."""
    return Case("large", f"one tensor of {elements:,}", ((elements,),))


_SMALLER = (
    Case("medium", "one tensor of 131,072", ((131_072,),)),
    Case("small", "one tensor of 4,096", ((4_096,),)),
    Case("mlp", "an MLP of 4 tensors, 4,810 in all", ((64, 64), (64,), (64, 10), (10,))),
    Case("adapters", "224 tensors of 8 x 4,096", ((8, 4_096),) * 224),
    Case(
        "many",
        "1,000 tensors of 64 to 1,024",
        # Every size about once, in no order.
        tuple((64 + 577 * index % 961,) for index in range(1000)),
    ),
)
SMALLER = {case.name: case for case in _SMALLER}
NAMES = ("large", *SMALLER)


def draw_parameters(case: Case) -> Arrays:
    """Draw parameters as large as those of a trained layer."""
    return _draw(case, np.random.default_rng(SEED), 0.02)


def draw_gradients(case: Case, seed: int = SEED) -> Arrays:
    """Draw gradients; step after step with the same ones stays finite and normal."""
    return _draw(case, np.random.default_rng((SEED, seed)), 0.01)


def convert(arrays: Arrays, dtype: DTypeLike) -> Arrays:
    """Return copies of a type; uint16 stands for the bits of bfloat16."""
    if dtype == BITS:
        return {name: compact.encode_bfloat16(array) for name, array in arrays.items()}
    return {name: array.astype(dtype) for name, array in arrays.items()}


def numbers(arrays: Arrays) -> Arrays:
    """Return the numbers that arrays stand for; those that hold numbers themselves."""
    return {
        name: compact.decode_bfloat16(array) if array.dtype == BITS else array
        for name, array in arrays.items()
    }


def _draw(case: Case, generator: np.random.Generator, deviation: float) -> Arrays:
    arrays = {}
    for index, shape in enumerate(case.shapes):
        values = generator.standard_normal(shape, dtype=np.float32)
        values *= deviation
        arrays[f"layers.{index}"] = values
    return arrays

"""Layouts of gradients and parameters: transposed, sliced, of the other type."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sections import compare
from thalweg.cli.bench.cases import Case
from thalweg.cli.bench.contenders import BASELINE, FLOAT32, FLOAT64, Contender, ours
from thalweg.cli.bench.native import adamw

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike

    from sections import Options
    from thalweg.cli.bench.formulas import Array, Arrays

TITLE = "AdamW on a square matrix; x thalweg is the time of C order"
SIDE = 4_096


class Layout(NamedTuple):
    """The order of a gradient and its parameter in memory, and the types that have it."""

    gradient: Callable[[Array], Array]
    param: Callable[[Array], Array] = np.ascontiguousarray
    reads: int = 1
    """The memory that a gradient lies in, in units of the parameter's."""
    types: tuple[DTypeLike, ...] = (FLOAT32, FLOAT64)


def _spread(gradient: Array) -> Array:
    return np.repeat(gradient, 2, axis=1)[:, ::2]


LAYOUTS = {
    "C order": Layout(np.ascontiguousarray),
    "transposed gradient": Layout(np.asfortranarray),
    "every second column": Layout(_spread, reads=2),
    "float64 gradient": Layout(lambda g: g.astype(FLOAT64), reads=2, types=(FLOAT32,)),
    "both in Fortran order": Layout(np.asfortranarray, np.asfortranarray),
}


def _each(change: Callable[[Array], Array], arrays: Arrays) -> Arrays:
    return {name: change(array) for name, array in arrays.items()}


def _contender(label: str, layout: Layout, dtype: np.dtype[np.floating]) -> Contender:
    name = BASELINE if label == "C order" else label
    arrange = partial(_each, layout.gradient)
    plain = ours(name, label, adamw, nonfinite="ignore", dtype=dtype, arrange=arrange)
    return replace(
        plain,
        build=lambda params: plain.build(_each(layout.param, params)),
        gradient_reads=layout.reads,
    )


def run(options: Options) -> None:
    """Measure all layouts of a type together."""
    side = options.pick(SIDE, 67)
    for dtype in (FLOAT32, FLOAT64):
        case = Case("layouts", f"{side:,} x {side:,}, {dtype}", ((side, side),))
        fitting = [
            _contender(label, layout, dtype)
            for label, layout in LAYOUTS.items()
            if dtype in layout.types
        ]
        compare(case, fitting, options.effort)

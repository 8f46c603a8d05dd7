"""Gradients and parameters as they come: transposed, sliced, of the other type."""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limit import Limit, Traffic, of_limit
from subjects import ADAMW, TYPES, Array, check, filled
from tables import Table
from timing import Timed, interleaved, ratio

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike

    from sections import Options

TITLE = "AdamW on a square matrix; speed relative to C order and to the memory limit"
SIDE = 4_096
SMALL_SIDE = 67
ORDINARY, LIMIT = "C order", "limit"
UPDATED = 1 + ADAMW.states


class Layout(NamedTuple):
    """Order of the parameter, how its gradient is made, and for which types."""

    order: str
    gradient: Callable[[int, DTypeLike], Array]
    read: int = 1
    """The memory that a gradient lies in, in units of the parameter's."""
    types: tuple[DTypeLike, ...] = TYPES


def _gradient(side: int, dtype: DTypeLike) -> Array:
    return filled((side, side), dtype, 0.01)


LAYOUTS = {
    ORDINARY: Layout("C", _gradient),
    "transposed gradient": Layout("C", lambda side, dtype: _gradient(side, dtype).T),
    "every second column": Layout(
        "C", lambda side, dtype: filled((side, 2 * side), dtype, 0.01)[:, ::2], read=2
    ),
    "float64 gradient": Layout(
        "C", lambda side, _: _gradient(side, np.float64), read=2, types=(np.float32,)
    ),
    "both in Fortran order": Layout(
        "F", lambda side, dtype: np.asfortranarray(_gradient(side, dtype))
    ),
}


def _param(side: int, dtype: DTypeLike, order: str) -> Array:
    p = filled((side, side), dtype)
    return np.asfortranarray(p) if order == "F" else p


def _checked(dtype: DTypeLike) -> dict[str, Layout]:
    chosen = {name: layout for name, layout in LAYOUTS.items() if dtype in layout.types}
    for layout in chosen.values():
        p, g = _param(SMALL_SIDE, dtype, layout.order), layout.gradient(SMALL_SIDE, dtype)
        check(ADAMW, p, g)
    return chosen


def _steps(layouts: dict[str, Layout], side: int, dtype: DTypeLike) -> dict[str, Timed]:
    """Return a step of each layout; those of one order share parameter and state."""
    opts = {
        order: ADAMW.make(_param(side, dtype, order), nonfinite="ignore")
        for order in {layout.order for layout in layouts.values()}
    }
    return {
        name: Timed(partial(opts[layout.order].step, layout.gradient(side, dtype)))
        for name, layout in layouts.items()
    }


def run(options: Options) -> None:
    """Measure all layouts of a type and the limit together."""
    side = options.pick(SIDE, SMALL_SIDE)
    for dtype in map(np.dtype, TYPES):
        layouts = _checked(dtype)
        limit = Limit(side * side, dtype, UPDATED).of(UPDATED)
        timed = {**_steps(layouts, side, dtype), LIMIT: limit}
        times = interleaved(timed, options.rounds_or(9))
        table = Table(f"{side} x {side} {dtype}", "ms", "of C order", "of limit")
        for name, layout in layouts.items():
            own, traffic = times[name], Traffic(UPDATED, layout.read)
            relative = ratio(times[ORDINARY], own), of_limit(traffic, own, times[LIMIT])
            table.row(name, median(own) / 1e6, *relative)
        print()

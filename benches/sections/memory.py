"""The promise that nothing is allocated: what steps add to the peak, and what state takes."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from subjects import ADAMW, AMSGRAD, MOMENTUM_SGD, PLAIN_SGD, filled, state_of
from tables import Table

if TYPE_CHECKING:
    from sections import Options

TITLE = "bytes: state a parameter, growth of the peak over 20 steps, one array"
RULES = {rule.name: rule for rule in (ADAMW, AMSGRAD, MOMENTUM_SGD, PLAIN_SGD)}
ELEMENTS = 16 << 20
STEPS = 20


def _resident(field: str) -> int:
    """Bytes by Linux's account: VmRSS now, VmHWM at the peak.

    `ru_maxrss` would not do: a child begins with its parent's.
    """
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition(f"{field}:")[2].split()[0])


def _forget_peak() -> None:
    # Otherwise what construction took and gave back hides what a step takes.
    Path("/proc/self/clear_refs").write_text("5")


def measure(name: str, dtype: str, elements: int) -> tuple[float, int]:
    """Return bytes of state a parameter, and the growth of the peak; for a process of its own."""
    rule = RULES[name]
    p, g = filled(elements, dtype), filled(elements, dtype, 0.01)
    # Starts the threads, whose stacks are no allocation of a step.
    rule.make(filled(1 << 17, dtype)).step(filled(1 << 17, dtype, 0.01), max_norm=1.0)
    opt = rule.make(p)
    _forget_peak()
    before = _resident("VmRSS")
    for _ in range(STEPS):
        opt.step(g, max_norm=1.0)
    grown = _resident("VmHWM") - before
    return sum(array.nbytes for array in state_of(opt, "0").values()) / p.size, grown


def run(options: Options) -> None:
    """Measure each rule in a process of its own: what one leaves behind is no room for the next."""
    elements = options.pick(ELEMENTS, 1 << 20)
    table = Table(f"{elements:,} elements", "state", "growth", "array")
    for dtype in ("float32", "float64"):
        for name in RULES:
            with multiprocessing.get_context("spawn").Pool(1) as fresh:
                state, growth = fresh.apply(measure, (name, dtype, elements))
            table.row(f"{name} {dtype}", state, growth, elements * np.dtype(dtype).itemsize)

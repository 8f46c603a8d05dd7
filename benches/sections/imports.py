"""What `import thalweg` costs a program that imports NumPy anyway."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from typing import TYPE_CHECKING

from tables import Table

if TYPE_CHECKING:
    from sections import Options

TITLE = "milliseconds in a fresh interpreter"
PROGRAM = """
from time import perf_counter_ns
start = perf_counter_ns()
import {module}
print(perf_counter_ns() - start)
"""
MODULES = ("numpy", "thalweg")


def _milliseconds(module: str) -> float:
    program = PROGRAM.format(module=module)
    ended = subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return int(ended.stdout) / 1e6


def run(options: Options) -> None:
    """Measure both in pairs, after one that fills the system's file cache."""
    for module in MODULES:
        _milliseconds(module)
    pairs = [tuple(map(_milliseconds, MODULES)) for _ in range(options.rounds_or(21))]
    table = Table("import", "ms")
    for module, times in zip(MODULES, zip(*pairs, strict=True), strict=True):
        table.row(module, median(times))
    table.row("thalweg over numpy", median(ours - base for base, ours in pairs))

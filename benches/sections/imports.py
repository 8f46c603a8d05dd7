"""What `import thalweg` costs a program that imports NumPy anyway."""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median
from tempfile import TemporaryDirectory
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


def _milliseconds(module: str, cache: str) -> float:
    program = PROGRAM.format(module=module)
    # As an installed package has it: compiled once, not at each import.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
    ended = subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        env=environment,
        text=True,
    )
    return int(ended.stdout) / 1e6


def run(options: Options) -> None:
    """Measure both in pairs, after one that fills the caches."""
    with TemporaryDirectory() as cache:
        pairs = [
            tuple(_milliseconds(module, cache) for module in MODULES)
            for _ in range(1 + options.rounds_or(21))
        ][1:]
    table = Table("import", "ms")
    for module, times in zip(MODULES, zip(*pairs, strict=True), strict=True):
        table.row(module, median(times))
    table.row("thalweg over numpy", median(ours - base for base, ours in pairs))

"""The cost of `import thalweg` to a program that imports NumPy anyway."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from thalweg.cli.bench.display import print_table
from thalweg.cli.bench.rounds import race
from thalweg.cli.bench.stepper import Step
from thalweg.cli.bench.tables import format_time

if TYPE_CHECKING:
    from sections import Options

TITLE = "fresh interpreters that import a module and end"
MODULES = ("numpy", "thalweg")
# Bytecode is cached, as for an installed package, instead of compiled at each import.
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}


def _start(module: str) -> None:
    command = [sys.executable, "-c", f"import {module}"]
    subprocess.run(command, check=True, env=ENVIRONMENT)  # noqa: S603 - our own interpreter


def run(options: Options) -> None:
    """Measure both in turn."""
    steps = {module: Step(partial(_start, module)) for module in MODULES}
    times = race(steps, options.rounds_or(21))
    base, ours = (series.seconds for series in times.values())
    cells = [(module, format_time(series.median)) for module, series in times.items()]
    over = median(ours[number] - base[number] for number in base)
    print_table("medians", ("import", "time"), [*cells, ("thalweg over numpy", format_time(over))])

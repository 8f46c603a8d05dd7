"""``thalweg info``: facts that explain a speed or belong in a bug report."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import numpy as np

import thalweg
from thalweg import _core

if TYPE_CHECKING:
    import argparse

SUMMARY = "print the versions, the CPU level, and the number of threads with its origin"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add no options."""


def run(_arguments: argparse.Namespace) -> int:
    """Print one fact per line."""
    levels = ", ".join(thalweg.cpu_levels())
    facts = {
        "thalweg": thalweg.__version__,
        "CPU level": f"{thalweg.get_cpu_level()} (this machine has {levels})",
        "threads": f"{thalweg.get_num_threads()} ({_core.num_threads_source()})",
        "state": "8 bytes a float32 parameter of Adam; bfloat16 4, compact 3.016",
        "NumPy": np.__version__,
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    }
    for name, fact in facts.items():
        print(f"{name:<10} {fact}")
    return 0

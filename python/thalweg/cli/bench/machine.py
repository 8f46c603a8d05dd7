"""Facts about the machine that explain a speed."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

import thalweg
from thalweg import _core
from thalweg.cli.bench.memory import available_memory, read

if TYPE_CHECKING:
    from collections.abc import Iterable


def facts(packages: Iterable[str]) -> dict[str, Any]:
    """Return what a reader of the numbers has to know, with the versions of these packages."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": thalweg.get_num_threads(),
        "threads_source": _core.num_threads_source(),
        "cpu_level": thalweg.get_cpu_level(),
        "available_memory": available_memory(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {
            "thalweg": thalweg.__version__,
            "NumPy": np.__version__,
            "Python": platform.python_version(),
            **{package: _version(package) for package in packages},
        },
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _cpu_model() -> str:
    model = re.search(r"^model name\s*: (.+)$", read("/proc/cpuinfo"), re.MULTILINE)
    return model[1] if model else platform.processor() or platform.machine()

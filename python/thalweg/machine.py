"""Facts about the machine that explain a speed, for benchmarks and reports."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import thalweg
from thalweg import _core
from thalweg.mapped.limits import memory_limit

if TYPE_CHECKING:
    from collections.abc import Iterable

# Free memory of the smallest machines of today, for systems that do not report theirs.
ASSUMED = 2 * 2**30


def facts(packages: Iterable[str]) -> dict[str, Any]:
    """Return the facts needed to interpret a measurement, with the versions of `packages`."""
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


def available_memory() -> int:
    """Return the bytes available now, without swapping and within the limit of a container."""
    return min(_system_memory(), memory_limit())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _cpu_model() -> str:
    model = re.search(r"^model name\s*: (.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return model[1] if model else platform.processor() or platform.machine()


def _system_memory() -> int:
    available = re.search(r"^MemAvailable: *(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE)
    return int(available[1]) * 1024 if available else ASSUMED


def _read(path: str) -> str:
    """Return the text of a system file, or an empty text if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""

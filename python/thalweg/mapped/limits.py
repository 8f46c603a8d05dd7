"""Memory available to the process: that of the machine, or the smaller limit of a cgroup."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["memory_limit"]

CGROUPS = Path("/sys/fs/cgroup")


def memory_limit() -> int:
    """The limit in bytes."""
    found = [2**63 - 1]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            found += _along(CGROUPS, group, "memory.max")
        elif "memory" in controllers.split(","):
            found += _along(CGROUPS / "memory", group, "memory.limit_in_bytes")
    return min(found)


def _along(root: Path, group: str, file: str) -> list[int]:
    """The limits of a group and of its parents."""
    at = root / group.lstrip("/")
    found = []
    for directory in (at, *at.parents):
        if not directory.is_relative_to(root):
            break
        try:
            text = (directory / file).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():  # not "max"
            found.append(int(text))
    return found

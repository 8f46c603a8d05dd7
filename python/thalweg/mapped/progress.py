"""The record of progress: where its words are, and the numbers that stand for what is no number."""

from __future__ import annotations

import hashlib
import json
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MAGIC", "NOTHING", "STEPS", "WEIGHT", "Word", "boot_number", "model_number"]

MAGIC = int.from_bytes(b"thalweg\n", "little")
NOTHING = 2**64 - 1
"""In place of the number that was flushed: writing has begun since."""


class Word(IntEnum):
    """Positions of words of eight bytes, unsigned and little-endian."""

    MAGIC = 0
    FORMAT = 1
    MODEL = 2
    BOOT = 3
    BEGUN = 4
    FINISHED = 5
    FLUSHED = 6
    COUNTERS = 7
    """Steps, skips, skips since the last step; then the weight."""
    LEAVES = 11


WEIGHT = 10
"""A float of eight bytes."""
STEPS = 16
"""From here on numbers of updates, in the order of the sorted names."""


def model_number(model: Mapping[str, Any], names: Sequence[str]) -> int:
    """Stands for rule, options and names."""
    return _number(json.dumps([model, list(names)], sort_keys=True).encode())


def boot_number() -> int:
    """Stands for this run of the machine; 0 where it does not tell."""
    try:
        return _number(Path("/proc/sys/kernel/random/boot_id").read_bytes())
    except OSError:
        return 0


def _number(text: bytes) -> int:
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")

"""The file of the record of progress, and its numbers that identify a model and a boot."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg._core import Word
from thalweg.disk.writing import naming

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "FORMAT",
    "MAGIC",
    "boot_number",
    "is_of_this_run",
    "model_number",
    "read",
    "record",
]

FORMAT = 1
MAGIC = int.from_bytes(b"thalweg\n", "little")


def model_number(model: Mapping[str, Any], names: Sequence[str]) -> int:
    """A hash of rule, options and names."""
    return _number(json.dumps([model, list(names)], sort_keys=True).encode())


def boot_number() -> int:
    """A hash of the machine's boot id; 0 where there is none."""
    try:
        return _number(Path("/proc/sys/kernel/random/boot_id").read_bytes())
    except OSError:
        return 0


def _number(text: bytes) -> int:
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def is_of_this_run(words: NDArray[np.uint64]) -> bool:
    """Whether a record was written since the machine booted. False where boots have no id."""
    return int(words[Word.BOOT]) in {boot_number()} - {0}


def read(path: Path) -> NDArray[np.uint64]:
    """The words of a file, not checked."""
    with naming(path):
        return np.fromfile(path, "<u8")


def record(
    model: Mapping[str, Any],
    steps: Mapping[str, int],
    counts: tuple[int, int, int, float],
    number: int,
    flushed: int,
    *,
    torn: bool,
) -> NDArray[np.uint64]:
    """The words of a new record. `number` counts complete writes; `flushed` is the last on disk."""
    names = sorted(steps)
    words = np.zeros(Word.STEPS + len(names), "<u8")
    words[Word.MAGIC], words[Word.FORMAT] = MAGIC, FORMAT
    words[Word.MODEL] = model_number(model, names)
    words[Word.BOOT] = boot_number()
    words[Word.BEGUN], words[Word.FINISHED] = number + torn, number
    words[Word.FLUSHED], words[Word.LEAVES] = flushed, len(names)
    words[Word.COUNTERS : Word.COUNTERS + 3] = counts[:3]
    words[Word.WEIGHT : Word.WEIGHT + 1] = np.array([counts[3]]).view("<u8")
    words[Word.STEPS :] = [steps[name] for name in names]
    return words

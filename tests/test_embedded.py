"""The optimizer for Rust programs has the bits and the files of the package.

Both make the files of `data/embedded.json` and compare their checksums with it: this test, and
`optimizer.rs`. To write it anew: `python tests/test_embedded.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg

if TYPE_CHECKING:
    from collections.abc import Callable

EXPECTED = Path(__file__).parent / "data" / "embedded.json"
RUNS: dict[str, Callable[[Any], thalweg.Optimizer]] = {
    "adam": lambda p: thalweg.Adam(p, l2=0.1),
    "adamw": lambda p: thalweg.AdamW(p, groups=[{"match": "b", "weight_decay": 0.0}]),
    "adabelief": thalweg.AdaBelief,
    "adagrad": lambda p: thalweg.Adagrad(p, initial_accumulator_value=0.1),
    "amsgrad": lambda p: thalweg.AdamW(p, amsgrad=True),
    "cautious": lambda p: thalweg.AdamW(p, cautious=True, update_rms=1.0),
    "compact": lambda p: thalweg.AdamW(p, state="compact"),
    "free": thalweg.ScheduleFreeAdamW,
    "lion": lambda p: thalweg.Lion(p, state="bfloat16"),
    "nadamw": thalweg.NAdamW,
    "radamw": lambda p: thalweg.RAdamW(p, nonfinite="skip"),
    "rmsprop": lambda p: thalweg.RMSprop(p, momentum=0.9, centered=True),
    "sgd": lambda p: thalweg.SGD(p, lr=1e-3, momentum=0.9, nesterov=True),
    "sgdw": lambda p: thalweg.SGDW(p, lr=0.1, independent=True, weight_decay=0.01),
}


def numbers(seed: int, count: int) -> np.ndarray:
    """Numbers from -1 to 1, the same in every language."""
    state = (seed * 0x9E3779B97F4A7C15) % 2**64 | 1
    found = []
    for _ in range(count):
        state ^= (state << 13) % 2**64
        state ^= state >> 7
        state ^= (state << 17) % 2**64
        found.append((state >> 40) / 2**23 - 1.0)
    return np.array(found, np.float32)


def checksum(name: str, path: Path) -> str:
    """The checksum of the file after three steps."""
    params = {"w": numbers(1, 4160).reshape(64, 65), "b": numbers(2, 3)}
    opt = RUNS[name](params)
    for step in range(3):
        grads = {"w": numbers(10 + step, 4160).reshape(64, 65), "b": numbers(20 + step, 3)}
        opt.step(grads, max_norm=30.0)
    opt.save(path)
    return path.read_bytes()[45:77].decode()


@pytest.mark.parametrize("name", RUNS)
def test_files_are_those_of_the_crate(name: str, tmp_path: Path) -> None:
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    assert checksum(name, tmp_path / "run.safetensors") == expected[name]


def test_both_make_the_same_files() -> None:
    assert json.loads(EXPECTED.read_text(encoding="utf-8")).keys() == RUNS.keys()


if __name__ == "__main__":
    made = {name: checksum(name, Path("run.safetensors")) for name in RUNS}
    Path("run.safetensors").unlink()
    EXPECTED.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")

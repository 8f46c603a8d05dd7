"""The bits of training with every rule, compared with stored ones: the same on every machine.

``python tests/test_stored_bits.py`` writes ``tests/data/bits.json``. It changes only if a formula
does; the processor, the system, Python and NumPy must not matter.
"""

from __future__ import annotations

import hashlib
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arrays import bits
from rules import RULES
from thalweg import compact, schedule

DATA = Path(__file__).parent / "data" / "bits.json"
SHAPES = {"matrix": (61, 83), "vector": (257,), "scalar": (), "large": (20_003,)}
STEPS = 12
SECOND_MOMENTS = ["Adam", "AdamW", "NAdamW", "RAdamW", "AdaBelief", "RMSprop", "ScheduleFreeAdamW"]
CASES: list[tuple[str, str, str, dict[str, Any]]] = [
    *product(RULES, ["float32", "float64", "float16"], ["full"], [{}]),
    *product(
        [*SECOND_MOMENTS, "Lion", "SGD, momentum"], ["float32", "bfloat16"], ["bfloat16"], [{}]
    ),
    *product(SECOND_MOMENTS, ["float32", "bfloat16"], ["compact"], [{}]),
    *product(["AdamW", "Lion"], ["float32", "float64"], ["full"], [{"cautious": True}]),
    ("AdamW", "float32", "full", {"update_rms": 0.2}),
    ("AdamW", "float32", "full", {"independent": True, "weight_decay": 1e-3}),
    ("AdamW", "float32", "full", {"maximize": True}),
]


def numbers(seed: int, shape: tuple[int, ...], dtype: str) -> Any:
    """Numbers of many magnitudes below 2, from integers alone, which every NumPy has the same."""
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    mantissas = (raw & np.uint64(0xFFFFFF)).astype(np.int64) - (1 << 23)
    exponents = (raw >> np.uint64(60)).astype(np.int64) + 22
    x = np.ldexp(mantissas.astype(np.float64), -exponents)
    if dtype == "bfloat16":
        return compact.encode_bfloat16(x.astype(np.float32)).reshape(shape)
    return x.astype(dtype).reshape(shape)


def tree(seed: int, dtype: str) -> dict[str, Any]:
    return {name: numbers(seed + i, shape, dtype) for i, (name, shape) in enumerate(SHAPES.items())}


def gradients(step: int, dtype: str) -> dict[str, Any]:
    """In rows or columns, of the type of the parameters or another; one is not finite."""
    if step == 6:
        dtype = "float32" if dtype == "float64" else "float64"
    grads = tree(100 * step, dtype)
    if step % 4 == 0:
        grads["matrix"] = np.asfortranarray(grads["matrix"])
    if step == 9:
        grads["vector"][3] = 0x7F80 if dtype == "bfloat16" else np.inf
    return grads


def limits(step: int) -> dict[str, Any]:
    """What a step does to gradients before it uses them, and what it measures."""
    clip = [{}, {"max_norm": 1.5}, {"max_tensor_norm": 0.7}, {"max_value": 0.01}][step % 4]
    return {**clip, "scale": 0.37 if step % 3 == 0 else 1.0, "stats": step % 5 == 0}


def trained(rule: str, dtype: str, state: str, options: dict[str, Any]) -> str:
    """Hash of the reports, the parameters and the state."""
    declared: Any = "*" if dtype == "bfloat16" else ()
    lr = 0.02 * schedule.cosine(total=STEPS, warmup=2, exponent=1.3)
    usual = {"lr": lr, "state": state, "bfloat16": declared, "nonfinite": "skip"}
    opt = RULES[rule].make(tree(0, dtype), **usual | options)
    found = hashlib.sha256()
    for step in range(1, STEPS + 1):
        report = opt.step(gradients(step, dtype), **limits(step))
        found.update(repr((report.lr, report.grad_norm, report.clip, report.stats)).encode())
    for name in SHAPES:
        for array in [opt.params[name], *opt.state[name].values()]:
            x = np.asarray(array)
            x = bits(x) if x.dtype.kind == "f" else x
            found.update(repr((x.dtype.str[1:], x.shape)).encode())
            found.update(np.ascontiguousarray(x, x.dtype.newbyteorder("<")).tobytes())
    return found.hexdigest()[:32]


def name_of(rule: str, dtype: str, state: str, options: dict[str, Any]) -> str:
    chosen = [f"{key}={value}" for key, value in options.items()]
    return ", ".join([rule, dtype, f"state {state}", *chosen])


STORED: dict[str, str] = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: name_of(*case))
def test_the_bits_are_those_of_every_other_machine(case: Any) -> None:
    assert trained(*case) == STORED[name_of(*case)]


def main() -> None:
    """Write the hashes."""
    found = {name_of(*case): trained(*case) for case in CASES}
    DATA.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

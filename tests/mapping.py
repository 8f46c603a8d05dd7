"""Helpers of the tests of memory-mapped training: models in a directory, and runs in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import thalweg
from rules import RULES

if TYPE_CHECKING:
    from pathlib import Path


def start() -> dict[str, Any]:
    """Initial parameters of both types, one of them 0-d and one empty."""
    rng = np.random.default_rng(1)
    return {
        "body": [rng.standard_normal((5, 7)).astype(np.float32), np.array(2.0)],
        "Body": rng.standard_normal(11),
        "none": np.zeros((0, 3), np.float32),
    }


def gradients(step: int) -> dict[str, Any]:
    rng = np.random.default_rng(100 + step)
    return {name: rng.standard_normal(p.shape) for name, p in thalweg.tree.flatten(start()).items()}


def wide(step: int = 0) -> dict[str, Any]:
    """Parameters, or gradients of a step, that are fast to make and slow to update."""
    return {"w": np.full(400_000, np.float32(1 + step % 7)), "b": np.full(3, step % 5 - 1.0)}


def opened(
    directory: Path, rule: str = "AdamW", like: Any = None, **options: Any
) -> thalweg.Optimizer:
    params = thalweg.map_params(directory, start() if like is None else like)
    return RULES[rule].make(params, **options, state_dir=directory)


def undisturbed(rule: str, steps: int) -> thalweg.Optimizer:
    """An optimizer in memory after `steps` steps without interruption."""
    opt = RULES[rule].make(start())
    for step in range(1, steps + 1):
        opt.step(gradients(step))
    return opt


def bits(opt: thalweg.Optimizer) -> dict[str, Any]:
    """Counters, and the bytes of parameters and state."""
    found: dict[str, Any] = {"counts": (opt.step_count, opt.skip_count, opt.consecutive_skips)}
    for name, array in opt.params.items():
        found[name] = array.tobytes()
        for key, value in opt.state.get(name, {}).items():
            found[f"{name}/{key}"] = value if key == "step" else value.tobytes()
    return found

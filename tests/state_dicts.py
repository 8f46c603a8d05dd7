"""Helpers of tests of state dicts: a model, its training, comparison and transport."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from thalweg import Optimizer


def model() -> dict[str, Any]:
    return {"fc": {"w": np.ones((3, 2), np.float32), "b": np.ones(3)}, "out": [np.ones(2)]}


def train(opt: Optimizer, steps: int) -> None:
    for _ in range(steps):
        rng = np.random.default_rng(opt.step_count)
        grads = {name: rng.normal(size=array.shape) for name, array in opt.params.items()}
        opt.step({**grads, "out.0": grads["out.0"] if opt.step_count % 3 else None})


def same_bits(one: Optimizer, other: Optimizer) -> bool:
    return (
        one.step_count == other.step_count
        and repr(one.groups) == repr(other.groups)
        and all(np.array_equal(one.params[name], other.params[name]) for name in one.params)
        and all(
            np.array_equal(leaf[key], other.state[name][key])
            for name, leaf in one.state.items()
            for key in leaf
        )
    )


def through_json(saved: Any) -> Any:
    """As a file format would give it back: lists for tuples, everything new."""
    if isinstance(saved, dict):
        return {key: through_json(value) for key, value in saved.items()}
    return saved.copy() if isinstance(saved, np.ndarray) else json.loads(json.dumps(saved))

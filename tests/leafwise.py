"""Runs of three parameters, compared parameter by parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arrays import assert_same_bits

if TYPE_CHECKING:
    from collections.abc import Sequence

    import thalweg
    from arrays import Array
    from rules import Rule

NAMES = ("low", "middle", "high")


def parameters() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((4, 5)).astype(np.float32) for name in NAMES}


def gradients(step: int) -> dict[str, Array]:
    rng = np.random.default_rng(step)
    return {name: rng.standard_normal((4, 5)).astype(np.float32) for name in NAMES}


def arrays(opt: thalweg.Optimizer, name: str) -> dict[str, Array]:
    state = {key: value for key, value in opt.state[name].items() if key != "step"}
    return {"p": opt.params[name], **state}


def assert_same(opt: thalweg.Optimizer, other: thalweg.Optimizer, *names: str) -> None:
    for name in names:
        assert opt.state[name]["step"] == other.state[name]["step"]
        one, two = arrays(opt, name), arrays(other, name)
        assert one.keys() == two.keys()
        for key, array in one.items():
            assert_same_bits(array, two[key])


def alone(rule: Rule, name: str, steps: Sequence[int]) -> thalweg.Optimizer:
    """An optimizer of one parameter, trained with the gradients of `steps` only."""
    opt = rule.make({name: parameters()[name]})
    for step in steps:
        opt.step({name: gradients(step)[name]})
    return opt

"""What is timed: the rules, ordinary arrays for them, and the check that results are right."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

import thalweg
from thalweg import reference
from thalweg.tree import flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import DTypeLike

Array: TypeAlias = NDArray[Any]

LR, DECAY, MOMENTUM = 1e-3, 1e-2, 0.9
TYPES = (np.float32, np.float64)


class Rule(NamedTuple):
    """An optimizer with its hyperparameters, and the function that defines its bits."""

    name: str
    make: Callable[..., thalweg.Optimizer]
    define: Callable[[Array, Array, Sequence[Array], int], tuple[Array, ...]]
    states: int


def _adam(p: Array, g: Array, state: Sequence[Array], step: int) -> tuple[Array, ...]:
    m, v, *u = state
    return reference.adam(
        p, g, m, v, step, lr=LR, weight_decay=DECAY, max_exp_avg_sq=u[0] if u else None
    )


def _sgd(p: Array, g: Array, state: Sequence[Array], step: int) -> tuple[Array, ...]:
    buffer = state[0] if state else None
    return reference.sgd(p, g, buffer, step, lr=LR, momentum=MOMENTUM if state else 0.0)


_adamw = partial(thalweg.AdamW, lr=LR, weight_decay=DECAY)
ADAMW = Rule("AdamW", _adamw, _adam, 2)
AMSGRAD = Rule("AMSGrad", partial(_adamw, amsgrad=True), _adam, 3)
MOMENTUM_SGD = Rule("SGD momentum", partial(thalweg.SGD, lr=LR, momentum=MOMENTUM), _sgd, 1)
PLAIN_SGD = Rule("SGD", partial(thalweg.SGD, lr=LR), _sgd, 0)
RULES = (ADAMW, AMSGRAD, MOMENTUM_SGD, PLAIN_SGD)


def values(shape: int | tuple[int, ...], dtype: DTypeLike, scale: float = 1.0) -> Array:
    """Return normally distributed numbers, always the same."""
    return (scale * np.random.default_rng(0).standard_normal(shape)).astype(dtype)


def filled(shape: int | tuple[int, ...], dtype: DTypeLike, scale: float = 1.0) -> Array:
    """Return `values` in a shape so large that drawing all would take long: they repeat."""
    return np.resize(values(4_093, dtype, scale), shape)


def state_of(opt: thalweg.Optimizer, name: str) -> dict[str, Array]:
    """Return the live state arrays of a parameter."""
    return {key: array for key, array in opt.state[name].items() if key != "step"}


def check(rule: Rule, params: Any, grads: Any) -> None:
    """End the benchmark unless three steps have the bits of the reference."""
    opt = rule.make(params)
    given = flatten(grads)
    start = {name: (p.copy(), *[np.zeros_like(p)] * rule.states) for name, p in opt.params.items()}
    for _ in range(3):
        opt.step(grads)
    for name, arrays in start.items():
        expected = arrays
        for step in (1, 2, 3):
            expected = rule.define(expected[0], given[name], expected[1:], step)
        got = (opt.params[name], *state_of(opt, name).values())
        if not all(np.array_equal(*pair) for pair in zip(got, expected, strict=True)):
            sys.exit(f"{rule.name} differs from the reference; nothing was timed")


def check_rules() -> None:
    """Check every rule with both types, at a size that is no multiple of a vector."""
    for rule in RULES:
        for dtype in TYPES:
            check(rule, values(1_003, dtype), values(1_003, dtype, 0.01))

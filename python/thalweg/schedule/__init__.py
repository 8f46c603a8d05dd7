"""Schedules as values: hyperparameters that are functions of the step, saved with the optimizer.

A schedule is called with the 1-based step. It is immutable, equal to any other with the same
options, and saved in state dicts, JSON and pickles. The default peak is 1, for scaling:
``3e-3 * cosine(total=1000, warmup=100)``.
"""

from __future__ import annotations

from thalweg.schedule.base import Product, Schedule, Sum, Then
from thalweg.schedule.cycles import cosine_restarts, one_cycle, one_cycle_momentum, triangular
from thalweg.schedule.decays import (
    constant,
    cosine,
    exponential,
    inverse_sqrt,
    linear,
    polynomial,
    warmup_stable_decay,
)
from thalweg.schedule.foreign import zero_based
from thalweg.schedule.parsing import from_json
from thalweg.schedule.picture import plot
from thalweg.schedule.piecewise import piecewise_constant, piecewise_interpolated
from thalweg.schedule.plain import KINDS as _KINDS
from thalweg.schedule.warmups import warmup

__all__ = [
    "Schedule",
    "constant",
    "cosine",
    "cosine_restarts",
    "exponential",
    "from_json",
    "inverse_sqrt",
    "linear",
    "one_cycle",
    "one_cycle_momentum",
    "piecewise_constant",
    "piecewise_interpolated",
    "plot",
    "polynomial",
    "triangular",
    "warmup",
    "warmup_stable_decay",
    "zero_based",
]

_KINDS.update(
    (kind.__name__.lower(), kind)
    for kind in (
        constant,
        linear,
        polynomial,
        cosine,
        exponential,
        inverse_sqrt,
        warmup_stable_decay,
        cosine_restarts,
        triangular,
        one_cycle,
        one_cycle_momentum,
        piecewise_constant,
        piecewise_interpolated,
        warmup,
        Product,
        Sum,
        Then,
    )
)

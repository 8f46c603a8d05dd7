"""Table of the rules for models of them: definition, values, choices, state and coefficients.

A model draws, checks and applies every rule from its row, so a new rule is a new row.
"""

from __future__ import annotations

import math
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from thalweg import reference
from thalweg.reference import one_minus_power

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Array = np.ndarray[Any, Any]
Values = dict[str, Any]

EPS_MIN = {np.dtype(np.float32): 1e-15, np.dtype(np.float64): 1e-120}
SQUARE_LIMIT = {np.dtype(np.float32): 2.0**64, np.dtype(np.float64): 2.0**512}
STATE_CHOICES = ("amsgrad", "centered")
"""Choices of a state array; the definition and the function have them if they get the array."""

AVERAGES_OF_SQUARES = ("exp_avg_sq", "exp_avg_var", "square_avg")
NEVER_NEGATIVE = (*AVERAGES_OF_SQUARES, "max_exp_avg_sq", "sum")


class Formula(NamedTuple):
    """A rule as users see it."""

    definition: Callable[..., tuple[Array, ...]]
    values: Values
    """Hyperparameters and their defaults; None if users must give one."""
    choices: tuple[str, ...]
    state: dict[str, str]
    """State arrays, each with the choice or hyperparameter that must not be 0; "" for always."""
    step_sizes: Callable[[Values, int], list[float]]
    """Coefficients of a step that are made from the learning rate."""
    limit: float
    """Magnitude of refused gradients, as a multiple of the least number whose square overflows."""
    optional: tuple[str, ...] = ()
    """Hyperparameters that no group needs to have."""

    @property
    def decay(self) -> str:
        return "weight_decay" if "weight_decay" in self.values else "l2"

    def states(self, has: Callable[[str], object]) -> tuple[str, ...]:
        """The state arrays of a parameter; `has` tells choices and hyperparameters that are on."""
        return tuple(name for name, needed in self.state.items() if not needed or has(needed))

    def coefficients(self, values: Values, step: int, *, independent: bool) -> list[float]:
        """All numbers that must be finite in the type of the parameter."""
        lr, decay = values["lr"], values.get("weight_decay", 0.0)
        keys = ("eps", "eps_root", "l2", "initial_accumulator_value")
        rest = [values.get(key, 0.0) for key in keys]
        return [*self.step_sizes(values, step), decay if independent else lr * decay, *rest]

    def refuses(self, magnitude: Array) -> Array:
        """Where the magnitudes of scaled gradients are too large or not finite."""
        limit = self.limit * SQUARE_LIMIT[magnitude.dtype]
        return ~(magnitude < magnitude.dtype.type(limit))

    def define(
        self, p: Array, g: Array, state: Mapping[str, Array], step: int, options: Values
    ) -> tuple[Array, ...]:
        """New parameter and state, by the reference."""
        known = signature(self.definition).parameters
        given = {"step": step, "momentum_buffer": None}
        given = {key: value for key, value in given.items() if key in known} | dict(state)
        rest = {key: value for key, value in options.items() if key not in STATE_CHOICES}
        return self.definition(p, g, **given, **rest)


def plain(values: Values, _step: int) -> list[float]:
    return [values["lr"]]


def corrected(values: Values, step: int) -> list[float]:
    return [values["lr"] / one_minus_power(values["betas"][0], step)]


def decaying(values: Values, step: int) -> list[float]:
    return [values["lr"] / (1.0 + float(step - 1) * values["lr_decay"])]


def ahead(values: Values, step: int) -> list[float]:
    lr, beta = values["lr"], values["betas"][0]
    first = one_minus_power(beta, step)
    following = first + (1.0 - first) * (1.0 - beta)
    return [lr * beta / following, lr * (1.0 - beta) / first]


def rectified(values: Values, step: int) -> list[float]:
    lr, betas = values["lr"], values["betas"]
    first, second = (one_minus_power(beta, step) for beta in betas)
    limit = 2.0 / (1.0 - betas[1]) - 1.0
    length = limit - 2.0 * float(step) * (1.0 - second) / second
    if length <= 5.0:
        return [lr / first]
    factor = (length - 4.0) * (length - 2.0) * limit
    factor = factor / ((limit - 4.0) * (limit - 2.0) * length)
    return [lr * math.sqrt(factor) * math.sqrt(second) / first]


ADAM = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}
BELIEF = {**ADAM, "eps": 1e-15, "eps_root": 1e-16}
FREE = {**ADAM, "lr": 2.5e-3, "r": 0.0, "weight_lr_power": 2.0}
LION = {"lr": 1e-4, "betas": (0.9, 0.99)}
RMSPROP = {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "momentum": 0.0}
ADAGRAD = {"lr": 1e-2, "eps": 1e-10, "lr_decay": 0.0, "initial_accumulator_value": 0.0}
SGD = {"lr": None, "momentum": 0.0, "dampening": 0.0}
L2, DECAY, LIMIT = {"l2": 0.0}, {"weight_decay": 1e-2}, ("update_rms",)
COUPLED, DECOUPLED = ("maximize",), ("independent", "maximize")
CAUTIOUS = ("cautious", *DECOUPLED)
MOMENTS = {"exp_avg": "", "exp_avg_sq": ""}
LARGEST = {**MOMENTS, "max_exp_avg_sq": "amsgrad"}
DEVIATION = {"exp_avg": "", "exp_avg_var": ""}
FREE_STATE = {"z": "", "exp_avg_sq": "", "history": ""}
BUFFER = {"momentum_buffer": "momentum"}
SQUARES = {"square_avg": "", "grad_avg": "centered", **BUFFER}
adam, sgd = reference.adam, reference.sgd

FORMULAS = {
    "Adam": Formula(adam, ADAM | L2, ("amsgrad", *COUPLED), LARGEST, corrected, 1.0),
    "AdamW": Formula(adam, ADAM | DECAY, ("amsgrad", *CAUTIOUS), LARGEST, corrected, 1.0, LIMIT),
    "NAdamW": Formula(reference.nadamw, ADAM | DECAY, CAUTIOUS, MOMENTS, ahead, 1.0, LIMIT),
    "RAdamW": Formula(reference.radamw, ADAM | DECAY, CAUTIOUS, MOMENTS, rectified, 1.0, LIMIT),
    "AdaBelief": Formula(reference.adabelief, BELIEF | DECAY, CAUTIOUS, DEVIATION, corrected, 0.5),
    "ScheduleFreeAdamW": Formula(
        reference.schedule_free_adamw, FREE | DECAY, DECOUPLED, FREE_STATE, plain, 1.0
    ),
    "Lion": Formula(reference.lion, LION | DECAY, CAUTIOUS, {"exp_avg": ""}, plain, math.inf),
    "RMSprop": Formula(
        reference.rmsprop, RMSPROP | L2, ("centered", *COUPLED), SQUARES, plain, 1.0
    ),
    "Adagrad": Formula(reference.adagrad, ADAGRAD | L2, COUPLED, {"sum": ""}, decaying, 1.0),
    "SGD": Formula(sgd, SGD | L2, ("nesterov", *COUPLED), BUFFER, plain, math.inf),
    "SGDW": Formula(sgd, SGD | DECAY, ("nesterov", *DECOUPLED), BUFFER, plain, math.inf),
}
STATE_NAMES = {name for formula in FORMULAS.values() for name in formula.state}
FUNCTIONS = {
    "schedule_free_adamw" if name == "ScheduleFreeAdamW" else name.lower(): formula
    for name, formula in FORMULAS.items()
}
"""The rows by the names of their functions."""

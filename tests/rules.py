"""Table of the rules for tests: class, function, definition in the reference, state and options."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

import thalweg
from thalweg import functional, reference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Array = NDArray[Any]
Options = dict[str, Any]


class Rule(NamedTuple):
    """One variant of a rule: its class, its function, its definition in the reference."""

    cls: type[thalweg.Optimizer]
    update: Callable[..., bool]
    definition: Callable[..., tuple[Array, ...]]
    state: tuple[str, ...]
    typical: Options
    options: dict[str, st.SearchStrategy[Any]]

    def arguments(self, options: Options) -> Options:
        """Arguments of the constructor: the typical options, overridden by `options`."""
        needed = {"max_exp_avg_sq": "amsgrad", "grad_avg": "centered"}
        choices = {choice: True for name, choice in needed.items() if name in self.state}
        return {**self.typical, **choices, **options}

    def make(self, params: Any, **options: Any) -> thalweg.Optimizer:
        return self.cls(params, **self.arguments(options))

    def _arguments(
        self, function: Callable[..., Any], p: Any, g: Any, state: Sequence[Any], step: int
    ) -> dict[str, Any]:
        """Arguments by name, as far as the function has them."""
        known = signature(function).parameters
        given = {"momentum_buffer": None, "step": step, **dict(zip(self.state, state, strict=True))}
        return {"p": p, "g": g, **{key: given[key] for key in given if key in known}}

    def define(
        self, p: Array, g: Array, state: Sequence[Array], step: int, options: Options
    ) -> list[Array]:
        """New parameter and state, by the reference."""
        arguments = self._arguments(self.definition, p, g, state, step)
        with np.errstate(all="ignore"):
            return [np.asarray(x) for x in self.definition(**arguments, **options)]

    def apply(
        self, p: Any, g: Any, state: Sequence[Any], step: int, options: Options, **how: Any
    ) -> bool:
        """Update in place, by the core; return whether the update was done."""
        arguments = self._arguments(self.update, p, g, state, step)
        return self.update(**arguments, **options, **{"nonfinite": "ignore", **how})


def schedule_free(p: Any, g: Any, z: Any, exp_avg_sq: Any, step: int, **options: Any) -> bool:
    """The function, with a history of earlier steps for each parameter."""
    history = [HISTORY.copy() for _ in p] if isinstance(p, list | tuple) else HISTORY.copy()
    return functional.schedule_free_adamw(p, g, z, exp_avg_sq, step, history=history, **options)


def schedule_free_definition(
    p: Array, g: Array, z: Array, exp_avg_sq: Array, step: int, **options: Any
) -> tuple[Array, ...]:
    """The definition, with the same history or another, without the history that follows."""
    options = {"history": HISTORY, **options}
    return reference.schedule_free_adamw(p, g, z, exp_avg_sq, step, **options)[:-1]


HISTORY = np.array([0.02, 0.5, 0.7])

# 1e-60 is zero in float32, and a term whose coefficient is zero is left out.
RATES = st.sampled_from([0.0, 1e-60, 1e-3, 1 / 3, 1.0])
BETAS = st.sampled_from([0.0, 0.3, np.nextafter(0.5, 0), 0.5, 0.7, 0.9, 0.999, 1 - 2**-53])
COMMON = {
    "lr": RATES,
    "maximize": st.booleans(),
    "scale": st.sampled_from([1.0, 0.5, 1 / 3, 3.7, 1e-6, 1e30, 1e-30]),
}
BOTH_BETAS = {**COMMON, "betas": st.tuples(BETAS, BETAS)}
ADAM = {**BOTH_BETAS, "eps": st.sampled_from([1e-8, 1e-15, 0.1])}
BELIEF = {**ADAM, "eps_root": st.sampled_from([0.0, 1e-60, 1e-16, 0.1])}
RMSPROP = {**COMMON, "alpha": BETAS, "eps": ADAM["eps"]}
ADAGRAD = {
    **COMMON,
    "eps": ADAM["eps"],
    "lr_decay": st.sampled_from([0.0, 1 / 3]),
    "initial_accumulator_value": st.sampled_from([0.0, 1e-60, 0.1]),
}
HELD = {"momentum": BETAS}
MOMENTUM = {**COMMON, **HELD, "dampening": st.sampled_from([0.0, 1 / 3, 1.0])}
NESTEROV = {**COMMON, "momentum": BETAS.filter(bool), "nesterov": st.just(value=True)}
WEIGHTS = {"r": st.sampled_from([0.0, 0.5, 2.0]), "weight_lr_power": st.sampled_from([0.0, 2.0])}
SHARE = {**ADAM, "betas": st.tuples(BETAS.filter(bool), BETAS), **WEIGHTS}
L2 = {"l2": RATES}
DECAY = {"weight_decay": RATES, "independent": st.booleans()}

Adam = (thalweg.Adam, functional.adam, reference.adam)
AdamW = (thalweg.AdamW, functional.adamw, reference.adam)
NAdamW = (thalweg.NAdamW, functional.nadamw, reference.nadamw)
RAdamW = (thalweg.RAdamW, functional.radamw, reference.radamw)
AdaBelief = (thalweg.AdaBelief, functional.adabelief, reference.adabelief)
RMSprop = (thalweg.RMSprop, functional.rmsprop, reference.rmsprop)
Adagrad = (thalweg.Adagrad, functional.adagrad, reference.adagrad)
Lion = (thalweg.Lion, functional.lion, reference.lion)
ScheduleFree = (thalweg.ScheduleFreeAdamW, schedule_free, schedule_free_definition)
SGD = (thalweg.SGD, functional.sgd, reference.sgd)
SGDW = (thalweg.SGDW, functional.sgdw, reference.sgd)
moments = ("exp_avg", "exp_avg_sq")
moments_and_maximum = (*moments, "max_exp_avg_sq")
buffer = ("momentum_buffer",)
l2, decay = {"lr": 0.01, "l2": 0.1}, {"lr": 0.01, "weight_decay": 0.1}
held = {"momentum": 0.9}
momentum = {**held, "dampening": 0.1}
nesterov = {"momentum": 0.9, "nesterov": True}
RULES = {
    "Adam": Rule(*Adam, moments, l2, ADAM | L2),
    "AMSGrad": Rule(*Adam, moments_and_maximum, l2, ADAM | L2),
    "AdamW": Rule(*AdamW, moments, decay, ADAM | DECAY),
    "AMSGradW": Rule(*AdamW, moments_and_maximum, decay, ADAM | DECAY),
    "NAdamW": Rule(*NAdamW, moments, decay, ADAM | DECAY),
    "RAdamW": Rule(*RAdamW, moments, decay, ADAM | DECAY),
    "AdaBelief": Rule(*AdaBelief, ("exp_avg", "exp_avg_var"), decay, BELIEF | DECAY),
    "Lion": Rule(*Lion, ("exp_avg",), decay, BOTH_BETAS | DECAY),
    "RMSprop": Rule(*RMSprop, ("square_avg",), l2, RMSPROP | L2),
    "RMSprop, momentum": Rule(*RMSprop, ("square_avg", *buffer), l2 | held, RMSPROP | HELD | L2),
    "RMSprop, centered": Rule(*RMSprop, ("square_avg", "grad_avg"), l2, RMSPROP | L2),
    "RMSprop, both": Rule(
        *RMSprop, ("square_avg", "grad_avg", *buffer), l2 | held, RMSPROP | HELD | L2
    ),
    "Adagrad": Rule(*Adagrad, ("sum",), l2, ADAGRAD | L2),
    "ScheduleFreeAdamW": Rule(*ScheduleFree, ("z", "exp_avg_sq"), decay, SHARE | DECAY),
    "SGD": Rule(*SGD, (), l2, COMMON | L2),
    "SGD, momentum": Rule(*SGD, buffer, l2 | momentum, MOMENTUM | L2),
    "SGD, Nesterov": Rule(*SGD, buffer, l2 | nesterov, NESTEROV | L2),
    "SGDW": Rule(*SGDW, (), decay, COMMON | DECAY),
    "SGDW, momentum": Rule(*SGDW, buffer, decay | momentum, MOMENTUM | DECAY),
    "SGDW, Nesterov": Rule(*SGDW, buffer, decay | nesterov, NESTEROV | DECAY),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
LAZY = {name: rule for name, rule in RULES.items() if "z" not in rule.state}
every_lazy_rule = pytest.mark.parametrize("rule", LAZY.values(), ids=LAZY)

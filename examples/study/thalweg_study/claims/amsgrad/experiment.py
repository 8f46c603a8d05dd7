"""The runs: the counter-example, and networks whose learning rate is tuned for both methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from thalweg_study.online import COMMON, EPS, PERIOD, PROBABILITY, RARE, Online
from thalweg_study.training import Training

if TYPE_CHECKING:
    from thalweg_study.claim import Perform, Setting
    from thalweg_study.statistics import Floats
    from thalweg_study.task import Record

Pair: TypeAlias = tuple[float, float]
"""A learning rate and a decay."""

METHODS = ("adamw", "amsgrad")
VARIANTS: dict[str, dict[str, Any]] = {
    "as in the paper": {},
    "with bias correction": {"corrected": True},
    "with bias correction, β₂ = 0.999": {"corrected": True, "beta2": 0.999},
}
"""How the deterministic problem is run; the first is judged."""

FIRST = next(iter(VARIANTS))


@dataclass(frozen=True)
class Scale:
    """How much is run."""

    online_steps: int
    stochastic_steps: int
    copies: int
    """Independent runs of the stochastic problem."""

    models: tuple[str, ...]
    epochs: int
    rates: tuple[float, ...]
    decays: tuple[float, ...]
    tuning: int
    """Seeds that choose; others, as many as ``comparing``, compare."""

    comparing: int


QUICK = Scale(200_000, 500_000, 100, ("conv",), 30, (3e-3, 1e-2, 3e-2), (0.1,), 5, 16)
FULL = Scale(
    200_000, 3_000_000, 100, ("conv", "mlp"), 60, (1e-3, 3e-3, 1e-2, 3e-2), (0.1, 0.5), 5, 24
)
ALPHA = {False: 0.5, True: 1.0}
"""By whether the problem is stochastic: there the way to -1 is longer for AMSGrad."""


def scale_of(setting: Setting) -> Scale:
    """Return how much is run in a setting."""
    return FULL if setting.thorough else QUICK


@dataclass(frozen=True)
class Network:
    """Results with one network."""

    tuning: dict[str, dict[Pair, Floats]]
    """Validation errors of the seeds that choose, by method, learning rate and decay."""

    chosen: dict[str, Pair]
    errors: dict[str, Floats]
    """Test errors of the other seeds, by method."""

    @property
    def gains(self) -> Floats:
        """By how much AMSGrad's test error is lower, for each seed."""
        return self.errors["adamw"] - self.errors["amsgrad"]


@dataclass(frozen=True)
class Results:
    """Everything that was found; Adam and AMSGrad are told apart as False and True."""

    data: str
    scale: Scale
    online: dict[tuple[str, bool], Record]
    """By variant."""

    stochastic: dict[bool, Record]
    networks: dict[str, Network]


def plan(setting: Setting) -> list[Online | Training]:
    """Return all tasks; the first of the learning rates and decays stands in for the best."""
    size = scale_of(setting)
    first = dict.fromkeys(METHODS, (size.rates[0], size.decays[0]))
    chosen = dict.fromkeys(size.models, first)
    return [
        *_online(size).values(),
        *_stochastic(size).values(),
        *_tuning(setting).values(),
        *_comparison(setting, chosen).values(),
    ]


def run(setting: Setting, perform: Perform) -> Results:
    """Perform the tasks."""
    size = scale_of(setting)
    problems = [*_online(size).values(), *_stochastic(size).values()]
    tuning = _tuning(setting)
    records = iter(perform([*problems, *tuning.values()]))
    online = {key: next(records) for key in _online(size)}
    stochastic = {key: next(records) for key in _stochastic(size)}
    validation = {key: next(records)["validation_error"] for key in tuning}
    tuned = {
        model: {
            method: {
                pair: np.array([validation[model, method, pair, i] for i in range(size.tuning)])
                for pair in _pairs(size)
            }
            for method in METHODS
        }
        for model in size.models
    }
    chosen = {
        model: {method: _best(errors) for method, errors in methods.items()}
        for model, methods in tuned.items()
    }
    comparison = _comparison(setting, chosen)
    ends = dict(zip(comparison, perform(list(comparison.values())), strict=True))
    networks = {
        model: Network(
            tuned[model],
            chosen[model],
            {
                method: np.array(
                    [end["test_error"] for key, end in ends.items() if key[:2] == (model, method)]
                )
                for method in METHODS
            },
        )
        for model in size.models
    }
    return Results(setting.data, size, online, stochastic, networks)


def _online(size: Scale) -> dict[tuple[str, bool], Online]:
    return {
        (name, amsgrad): Online(amsgrad, False, size.online_steps, alpha=ALPHA[False], **variant)
        for name, variant in VARIANTS.items()
        for amsgrad in (False, True)
    }


def _stochastic(size: Scale) -> dict[bool, Online]:
    return {
        amsgrad: Online(amsgrad, True, size.stochastic_steps, copies=size.copies, alpha=ALPHA[True])
        for amsgrad in (False, True)
    }


def _pairs(size: Scale) -> list[Pair]:
    return [(lr, decay) for decay in size.decays for lr in size.rates]


def _tuning(setting: Setting) -> dict[tuple[str, str, Pair, int], Training]:
    size = scale_of(setting)
    return {
        (model, method, pair, seed): Training(
            setting.data, model, method, *pair, epochs=size.epochs, seed=seed
        )
        for model in size.models
        for method in METHODS
        for pair in _pairs(size)
        for seed in range(size.tuning)
    }


def _comparison(
    setting: Setting, chosen: dict[str, dict[str, Pair]]
) -> dict[tuple[str, str, int], Training]:
    size = scale_of(setting)
    return {
        (model, method, seed): Training(
            setting.data, model, method, *chosen[model][method], epochs=size.epochs, seed=seed
        )
        for model in size.models
        for method in METHODS
        for seed in range(size.tuning, size.tuning + size.comparing)
    }


def _best(errors: dict[Pair, Floats]) -> Pair:
    return min(errors, key=lambda pair: float(errors[pair].mean()))


def method(results: Results) -> str:
    """Return how it was done."""
    size = results.scale
    rates = ", ".join(f"{rate:g}" for rate in size.rates)
    decays = " and ".join(f"{decay:g}" for decay in size.decays)
    return (
        f"The problem is online: on [-1, 1], the loss of step t is {RARE:g}·x if t mod {PERIOD} is "
        f"1 and {COMMON:g}·x otherwise. In the stochastic version it is {RARE:g}·x with "
        f"probability {PROBABILITY:g}. As in the paper β₁ is 0.9, β₂ 0.99, the step size alpha/√t, "
        "the bias is not corrected, and a point outside is put back on the edge; thalweg's "
        "correction is undone by a learning rate of alpha/√t·(1-β₁^t)/√(1-β₂^t), and eps is "
        f"{EPS:g}, the smallest it takes. We start at 0, with alpha = {ALPHA[False]:g}, and "
        f"alpha = {ALPHA[True]:g} for the stochastic version, so that fewer steps are needed. "
        "The regret of a step is its loss minus that at -1, the best fixed point; its average is "
        "over all steps so far, in the scale of the losses as they stand. In the stochastic "
        "version it is the regret of the expected loss, 0.2·(x + 1). All is float64, and its "
        f"{size.copies} runs are elements of one array, which the rules treat one by one. On real "
        f"data, {results.data}, networks are trained for {size.epochs} epochs with a cosine "
        f"schedule, AdamW and AdamW with AMSGrad, over learning rates {rates} and decay {decays}; "
        f"the lowest mean validation error over {size.tuning} seeds chooses for each method, and "
        f"{size.comparing} other seeds compare."
    )

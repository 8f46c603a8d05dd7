"""Names that other libraries use, and the arguments or methods of thalweg they correspond to."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from thalweg.attributes import from_the_start

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thalweg.groups.rule import Rule

__all__ = ["SPELLINGS", "hints", "ways"]

SPELLINGS = {
    **dict.fromkeys(("learning_rate", "learning_rate_init", "base_lr", "step_size"), "lr"),
    **dict.fromkeys(("b1", "b2", "beta1", "beta2", "beta_1", "beta_2"), "betas"),
    "epsilon": "eps",
    **dict.fromkeys(("rho", "decay_rate"), "alpha"),
    "wd": "weight_decay",
    "nesterovs_momentum": "nesterov",
    **dict.fromkeys(("state_dtype", "moment_dtype", "mu_dtype", "optim_bits"), "state"),
}
"""Our argument for each name that Keras, optax, scikit-learn and others use."""

STEP_ARGUMENTS = {
    **{key: key for key in ("max_norm", "max_tensor_norm", "max_value", "scale", "partial")},
    **dict.fromkeys(("stats", "collect_stats"), "stats"),
    **dict.fromkeys(("clip_norm", "global_clipnorm", "max_grad_norm"), "max_norm"),
    "clipnorm": "max_tensor_norm",
    "clipvalue": "max_value",
    "loss_scale": "scale",
}

COUNTS = "step_count counts the steps; opt.reset() sets it to 0"

ELSEWHERE = {
    **dict.fromkeys(("step", "step_count", "iterations", "global_step"), COUNTS),
    **dict.fromkeys(("skip_count", "consecutive_skips"), "opt.reset() sets it to 0"),
    "params": "opt.rebind(params) adopts other arrays, opt.extend(params) adds arrays",
    "state": "write into its arrays, as opt.state[name][key][...] = 0; its format is fixed when "
    "the optimizer is made",
    **dict.fromkeys(
        ("groups", "param_groups", "defaults"),
        "edit a group, as opt.groups[0].lr = 0.1; opt.extend(params, groups=...) adds groups",
    ),
    **dict.fromkeys(
        ("use_ema", "ema_momentum", "ema"), "thalweg.EMA(opt, decay=...) averages parameters"
    ),
    **dict.fromkeys(
        ("gradient_accumulation_steps", "accumulation_steps", "every_k_schedule"),
        "thalweg.Accumulator(opt) sums gradients",
    ),
    **dict.fromkeys(
        ("warmup", "warmup_steps"), "a schedule has it: lr=schedule.constant(lr, warmup=...)"
    ),
    **dict.fromkeys(
        ("foreach", "fused", "capturable", "differentiable", "jit_compile"),
        "thalweg has one implementation of a step",
    ),
}


@cache
def ways(rule: Rule) -> Mapping[str, str]:
    """Advice against setting a constructor's argument as an attribute, by name; see `Fixed`."""
    found = {
        key: f"{way}, which can load this one's state_dict() with hyperparameters='current'"
        for key, way in from_the_start(rule.name, *rule.options).items()
    }
    found |= from_the_start(rule.name, "state_dir")
    for key in (*rule.keys[1:], *rule.optional, "lr_scale", "frozen", "name"):
        found[key] = f"set opt.groups[0].{key}; only lr has a short form"
    found["lr"] = "set opt.lr"
    for key in ("l2", "weight_decay"):
        found.setdefault(key, f"{rule.name} has {rule.decay!r}; set opt.groups[0].{rule.decay}")
    spelled = {key: found[ours] for key, ours in SPELLINGS.items() if ours in found}
    return {**spelled, **found}


@cache
def hints() -> Mapping[str, str]:
    """Advice for names that belong to a step, a group or another class; see `Fixed`."""
    in_step = {
        key: f"it is an argument of a step: opt.step(grads, {argument}=...)"
        for key, argument in STEP_ARGUMENTS.items()
    }
    return {**in_step, **ELSEWHERE}

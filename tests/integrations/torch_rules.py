"""torch's rules with torch's names of options, for tests that run both libraries."""

from __future__ import annotations

from typing import Any

import pytest

import thalweg

DECOUPLED = "decoupled_weight_decay"

RULES: list[tuple[str, dict[str, Any]]] = [
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "betas": (0.5, 0.8), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01, "amsgrad": True, "maximize": True}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RMSprop", {"lr": 0.01, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.9, "maximize": True}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.9, "centered": True}),
    ("Adagrad", {"lr": 0.1, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.3}),
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
]


def each(rules: list[tuple[str, dict[str, Any]]]) -> pytest.MarkDecorator:
    ids = [f"{rule} {' '.join(options)}" for rule, options in rules]
    return pytest.mark.parametrize(("rule", "options"), rules, ids=ids)


each_rule = each(RULES)
each_class = pytest.mark.parametrize(
    "rule", ["AdamW", "Adam", "SGD", "RAdam", "RMSprop", "Adagrad"]
)
each_counted = pytest.mark.parametrize("rule", ["AdamW", "RAdam", "RMSprop", "Adagrad"])
"""Classes whose state has a step."""


def in_thalweg(rule: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options under thalweg's names; thalweg's `weight_decay` is always decoupled."""
    if rule == "RAdam":
        return {"weight_decay": 0.0, **{k: v for k, v in options.items() if k != DECOUPLED}}
    decay = "weight_decay" if rule == "AdamW" else "l2"
    return {{"weight_decay": decay}.get(key, key): value for key, value in options.items()}


def has_counterpart(rule: str, options: dict[str, Any]) -> bool:
    """Whether thalweg has the rule for arrays; it has no RAdam with a penalty."""
    return rule != "RAdam" or DECOUPLED in options or not options.get("weight_decay")


def of_arrays(rule: str) -> Any:
    """The class of thalweg with the rule."""
    return getattr(thalweg, {"RAdam": "RAdamW"}.get(rule, rule))


each_converted = each([case for case in RULES if has_counterpart(*case)])

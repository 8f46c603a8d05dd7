"""torch's rules with torch's names of options, for tests that run both libraries."""

from __future__ import annotations

from typing import Any

import pytest

RULES: list[tuple[str, dict[str, Any]]] = [
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "betas": (0.5, 0.8), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01, "amsgrad": True, "maximize": True}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
]
each_rule = pytest.mark.parametrize(
    ("rule", "options"), RULES, ids=[f"{rule} {' '.join(options)}" for rule, options in RULES]
)


def in_thalweg(rule: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options under thalweg's names; thalweg's `weight_decay` is always decoupled."""
    decay = "weight_decay" if rule == "AdamW" else "l2"
    return {{"weight_decay": decay}.get(key, key): value for key, value in options.items()}

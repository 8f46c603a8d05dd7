"""Coefficients that rules make from the learning rate; all must be finite in the element type."""

from __future__ import annotations

import math

from thalweg.reference import one_minus_power


def step_sizes(rule: str, lr: float, betas: tuple[float, float], step: int) -> list[float]:
    """The coefficients of a rule with `betas`, given by its name in lower case."""
    if rule == "lion":
        return [lr]
    first, second = (one_minus_power(beta, step) for beta in betas)
    if rule == "nadamw":
        following = first + (1.0 - first) * (1.0 - betas[0])
        return [lr * betas[0] / following, lr * (1.0 - betas[0]) / first]
    if rule == "radamw":
        limit = 2.0 / (1.0 - betas[1]) - 1.0
        length = limit - 2.0 * float(step) * (1.0 - second) / second
        if length > 5.0:
            factor = (length - 4.0) * (length - 2.0) * limit
            factor = factor / ((limit - 4.0) * (limit - 2.0) * length)
            return [lr * math.sqrt(factor) * math.sqrt(second) / first]
    return [lr / first]

"""Phrases that several claims use, so that they read alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thalweg_study.statistics import Interval

NETWORKS = {"mlp": "multilayer perceptron", "conv": "convolutional network"}
"""Names of the models in sentences."""

AT_AN_END = "A star marks a choice at an end of what was tried: beyond it may be better."
"""To be said where `choice` is used."""


def choice(value: float, tried: Sequence[float]) -> str:
    """Format what was chosen among some values, with a star if it is the first or last of many."""
    star = "*" if len(tried) > 1 and value in {tried[0], tried[-1]} else ""
    return f"{value:g}{star}"


def caution(ends: Sequence[str]) -> str:
    """Say of which methods the best may not have been found, if there are any."""
    return f" The best of {listed(ends)} is at an end of what was tried." if ends else ""


def points(difference: Interval) -> str:
    """Format a difference of errors in percentage points, with its sign."""
    return f"{difference.scaled(100):+.2f}"


def listed(words: Sequence[object]) -> str:
    """Join words as in ``1, 2 and 3``."""
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last

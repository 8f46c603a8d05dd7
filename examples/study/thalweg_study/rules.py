"""The shapes of rules: what an interval says of a claim, and what it does not decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalweg_study.claim import Outcome
    from thalweg_study.statistics import Interval


def above(found: Interval, value: float, *, fails_below: float | None = None) -> Outcome:
    """Judge a claim that something is above a value.

    It holds if the whole interval is above. It does not if the whole interval is below the same
    value, or below another one, from which on the excess is too little to speak of.
    """
    if found.above(value):
        return "holds"
    fails = value if fails_below is None else fails_below
    return "does not hold" if found.below(fails) else "undecided"


def below(found: Interval, value: float, *, fails_above: float | None = None) -> Outcome:
    """Judge a claim that something is below a value: `above`, upside down."""
    if found.below(value):
        return "holds"
    fails = value if fails_above is None else fails_above
    return "does not hold" if found.above(fails) else "undecided"

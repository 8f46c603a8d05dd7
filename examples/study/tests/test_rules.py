"""Rules decide what the whole interval says, and nothing else."""

from __future__ import annotations

import pytest

from thalweg_study.rules import above, below
from thalweg_study.statistics import Interval


@pytest.mark.parametrize(
    ("low", "high", "expected", "with_little"),
    [
        (1.1, 1.5, "holds", "holds"),
        (0.5, 0.9, "does not hold", "does not hold"),
        (0.9, 1.5, "undecided", "undecided"),
        (0.9, 1.1, "undecided", "does not hold"),
    ],
)
def test_above_a_value_and_upside_down(
    low: float, high: float, expected: str, with_little: str
) -> None:
    found = Interval((low + high) / 2, low, high)
    assert above(found, 1) == expected
    assert above(found, 1, fails_below=1.2) == with_little
    turned = found.scaled(-1)
    assert (turned.low, turned.high) == (-high, -low)
    assert below(turned, -1) == expected
    assert below(turned, -1, fails_above=-1.2) == with_little

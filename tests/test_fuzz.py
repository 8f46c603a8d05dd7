"""The boundary fuzzer finds nothing in its first inputs; `fuzz_boundary.py` runs any number."""

from __future__ import annotations

from collections import Counter

import pytest

import fuzz_cases
from formulas import FUNCTIONS


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # np.matrix is an input
def test_the_first_inputs_find_no_fault() -> None:
    outcomes = Counter(fuzz_cases.one(number) for number in range(5_000))
    for kind in [width + rule for width in ("", "narrow ") for rule in FUNCTIONS]:
        for outcome in ("updated", "TypeError", "ValueError"):
            assert outcomes[f"{kind}: {outcome}"] > 10
    for action in ("step", "convert"):
        for outcome in (action, f"{action} refused"):
            assert outcomes[f"optimizer: {outcome}"] > 10

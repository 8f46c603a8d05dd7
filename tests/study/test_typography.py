"""Numbers are typeset for readers; other hyphens stay."""
# ruff: noqa: RUF001 - it is about signs that look alike

from __future__ import annotations

import pytest

from thalweg.study.typography import typeset


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("slope -0.45 (-0.86 to -0.34)", "slope −0.45 (−0.86 to −0.34)"),
        ("[-1, 1] or -.5 or (1-β1^t)", "[−1, 1] or −.5 or (1-β1^t)"),
        ("6.3e-16, 1.2e+03, 1e5", "6.3·10⁻¹⁶, 1.2·10³, 1·10⁵"),
        ("1.0e+00", "1.0"),
        ("lr-0.1, 2026-11-26, mini-batches, 3-e", "lr-0.1, 2026-11-26, mini-batches, 3-e"),
    ],
)
def test_what_a_reader_sees(written: str, shown: str) -> None:
    assert typeset(written) == shown
    assert typeset(shown) == shown

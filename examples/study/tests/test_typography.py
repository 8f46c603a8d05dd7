"""Numbers are typeset for readers; other hyphens stay."""
# ruff: noqa: RUF001 - it is about signs that look alike

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from thalweg_study import display
from thalweg_study.claim import Chapter, Verdict
from thalweg_study.claims import CLAIMS
from thalweg_study.typography import typeset

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", "is −0.5, 1.0·10⁻³"), ("cp1252", "is -0.5, 1.0e-03"), ("ascii", "is -0.5, 1.0e-03")],
)
def test_a_terminal_without_the_signs_gets_numbers_as_they_are_written(
    encoding: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = Verdict("It is so.", "Holds if so.", "holds", "The slope is -0.5, 1.0e-03.")
    path = tmp_path / "printed"
    with path.open("w", encoding=encoding) as file:
        monkeypatch.setattr("sys.stdout", file)
        display.print_verdicts([(CLAIMS["amsgrad"], Chapter((verdict,), (), (), ""))])
    assert shown in path.read_text(encoding)

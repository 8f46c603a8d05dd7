"""The program that shows what smaller state does to training."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

for needed in ("matplotlib", "PIL", "sklearn"):
    pytest.importorskip(needed)
threadpoolctl = pytest.importorskip("threadpoolctl")

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = str(Path(__file__).parent.parent.parent / "examples")
sys.path.insert(0, EXAMPLES)
import small_state  # noqa: E402

sys.path.remove(EXAMPLES)


@pytest.fixture(scope="module")
def digits() -> Any:
    return small_state.Digits()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpoolctl.threadpool_limits(1):
        yield


def test_bfloat16_to_nearest_stalls_and_with_low_does_not(digits: Any) -> None:
    curves = small_state.stall(digits, steps=200)
    exact, split, nearest = (np.array(curve) for curve in curves.values())
    assert exact[-1] < 0.4
    assert abs(split[-1] - exact[-1]) < 0.02
    assert nearest[-1] > 0.8


def test_dithered_averages_follow_gradients_that_fade() -> None:
    exact, dithered, nearest = (curve[-1] for curve in small_state.fade(steps=3000).values())
    assert exact < 300
    assert dithered == pytest.approx(exact, rel=0.05)
    assert nearest > 3 * exact


def test_compact_state_does_not_collapse() -> None:
    exact, compact, linear = (max(curve) for curve in small_state.collapse().values())
    assert exact < 1.1
    assert compact < 1.5
    assert linear > 1000


def test_eight_bits_are_rounded_to_the_nearest_of_a_block() -> None:
    v = np.full(128, 1.0, np.float32)
    v[1], v[2], v[64:] = 0.3, 0.001, 0
    rounded = small_state.linear8(v)
    assert rounded[1] == pytest.approx(round(0.3 * 255) / 255)
    assert (rounded[2], rounded[64:].max(), rounded[3]) == (0, 0, 1)


def test_the_program_prints_all_parts_and_draws_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_state, "stall", lambda _: {key: [0.9, 0.1] for key in "abc"})
    monkeypatch.setattr(small_state, "fade", lambda: {key: [1.0, 0.5] for key in "abc"})
    path = tmp_path / "picture.png"
    small_state.main(["--picture", str(path), "--steps", "40", "--seeds", "2"])
    assert path.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "40 steps with betas=(0.9, 0.9999), 2 seeds" in printed
    for kept in small_state.FORMATS:
        row = re.search(
            rf"^{kept.label} +([\d.]+) ([\d.]+) % +([\d.]+) +([\d.]+)$", printed, re.MULTILINE
        )
        assert row, kept.label
        assert max(float(row[1]), float(row[2])) < 30
        assert float(row[3]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("--seeds", "0", "a whole number from 1 on"),
        ("--steps", "-1", "a whole number from 1 on"),
        ("--picture", "no-such-folder/picture.png", "a .png in a folder that exists"),
        ("--picture", "picture.gif", "a .png in a folder that exists"),
    ],
)
def test_wrong_options_are_refused(
    option: str, value: str, wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        small_state.main([f"{option}={value}"])
    assert f"argument {option}: must be {wanted}, got '{value}'" in capsys.readouterr().err

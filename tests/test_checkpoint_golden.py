"""Checkpoint files of every format ever written load, and the current format keeps its bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from checkpoints import DATA, FORMAT, MAKERS, advance, described, digest, look

if TYPE_CHECKING:
    from pathlib import Path

FILES = sorted(DATA.glob("*.safetensors"))


def name_of(path: Path) -> str:
    return path.stem.split("-", 2)[2]


def expected_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return found


def kinds(value: Any) -> Any:
    """A tree with the types of its values."""
    if isinstance(value, dict):
        return [(key, kinds(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(kinds, value)]
    if isinstance(value, np.ndarray | np.generic):
        return [type(value).__name__, described(value)]
    return [type(value).__name__, repr(value)]


def test_there_are_files_of_every_format_and_run() -> None:
    names = {f"format-{version}-{name}" for version in range(1, FORMAT + 1) for name in MAKERS}
    assert {path.stem for path in FILES} == names
    assert all(path.stat().st_size < 10_000 for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_has_the_expected_contents(path: Path) -> None:
    expected = expected_of(path)
    checkpoint = thalweg.read_checkpoint(path)
    params = checkpoint.params
    assert described(params) == expected["params"]
    assert described(checkpoint.state_dict) == expected["state_dict"]
    assert kinds(checkpoint.extra) == kinds(MAKERS[name_of(path)]()[1])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_run_continues_from_a_file(path: Path) -> None:
    expected = expected_of(path)
    whole = expected["params"] is not None
    opt, extra = MAKERS[name_of(path)]()
    if not whole:
        advance(opt, 6)  # the parameters, which are not in the file
    report = opt.load(path, params=whole)
    assert (report.step, report.changed) == (opt.step_count, {})
    assert kinds(report.extra) == kinds(extra)
    assert look(opt, params=whole) == {key: expected[key] for key in ("params", "state_dict")}
    advance(opt, 3)
    assert digest(opt) == expected["digest 3 steps later"]


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.stem.startswith(f"format-{FORMAT}-")],
    ids=lambda path: path.stem,
)
def test_the_same_content_gives_the_same_bytes(path: Path, tmp_path: Path) -> None:
    opt, extra = MAKERS[name_of(path)]()
    params = expected_of(path)["params"] is not None
    advance(opt, 6)
    opt.save(tmp_path / "trained", extra=extra, params=params)
    assert (tmp_path / "trained").read_bytes() == path.read_bytes()
    again, _ = MAKERS[name_of(path)]()
    report = again.load(path, params=params)
    again.save(tmp_path / "loaded", extra=report.extra, params=params)
    assert (tmp_path / "loaded").read_bytes() == path.read_bytes()

"""A run that is saved and resumed in another process ends with the bits of an uninterrupted run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import thalweg
from runs import RUNS, Run

PROGRAM = Path(__file__).parent / "runs.py"
BEFORE, AFTER = 21, 25  # micro-steps; BEFORE is odd, so the accumulator is half full


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A directory of checkpoints in mid-run, and the fingerprint of each uninterrupted run."""
    directory, ends = tmp_path_factory.mktemp("runs"), {}
    for name in RUNS:
        run = Run(name)
        run.advance(BEFORE)
        assert run.acc.count == 1
        assert run.opt.skip_count > 0
        run.save(directory / f"{name}.safetensors")
        run.advance(AFTER)
        ends[name] = run.fingerprint()
    return directory, ends


def levels() -> list[tuple[str, str]]:
    return [(level, threads) for level in thalweg.cpu_levels() for threads in ("1", "3")]


@pytest.mark.parametrize(("level", "threads"), levels())
def test_another_process_ends_with_the_same_bits(
    level: str, threads: str, expected: tuple[Path, dict[str, str]]
) -> None:
    directory, ends = expected
    environment = {**os.environ, "THALWEG_CPU_LEVEL": level, "THALWEG_NUM_THREADS": threads}
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, PROGRAM, directory, str(AFTER)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert dict(line.split() for line in done.stdout.splitlines()) == ends


@pytest.mark.parametrize("name", RUNS)
def test_a_run_can_be_saved_after_any_micro_step(name: str, tmp_path: Path) -> None:
    straight = Run(name, size=100)
    straight.advance(24)
    for at in range(1, 24):
        run = Run(name, size=100)
        run.advance(at)
        run.save(tmp_path / "run")
        resumed = Run(name, size=100)
        report = resumed.load(tmp_path / "run")
        assert (report.missing, report.unexpected, report.mismatched) == ((), (), ())
        assert report.changed == {}
        assert resumed.fingerprint() == run.fingerprint()
        resumed.advance(24 - at)
        assert resumed.fingerprint() == straight.fingerprint(), at

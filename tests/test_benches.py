"""The programs of `benches` run, and their figures other than times are right."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
from threadpoolctl import threadpool_limits

import thalweg
from thalweg.cli.bench.contenders import CONTENDERS
from thalweg.cli.bench.loops import NumpyLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    Run: TypeAlias = Callable[..., str]

BENCHES = Path(__file__).parents[1] / "benches"
STATE = {"AdamW": 2, "AMSGrad": 3, "SGD momentum": 1, "SGD": 0}
SIZES = {"float32": 4, "float64": 8}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Function that runs a program in this process and returns its output."""
    monkeypatch.syspath_prepend(BENCHES)

    def run(program: str, *arguments: str | Path) -> str:
        # By path, since `tests` has a module `checkpoints` too.
        spec = spec_from_file_location(f"benches.{program}", BENCHES / f"{program}.py")
        assert spec
        assert spec.loader
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.main([*map(str, arguments)]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return run


def rows_of(printed: str) -> list[list[str]]:
    """Cells of all tables, without headings and memory limits."""
    tables = re.findall(r"^─+\n((?:.+\n)+)", printed, re.MULTILINE)
    rows = [re.split(" {2,}", line.rstrip()) for table in tables for line in table.splitlines()]
    return [row for row in rows if len(row) > 1 and not row[0].startswith("memory limit")]


def names_of(printed: str) -> list[str]:
    return [name for name, *_ in rows_of(printed)]


FORMS = [
    f"{form}{kind}"
    for form in ("flat dict", "list", "nested", "nested, gradients by name")
    for kind in ("", ", ignore")
]
LAYOUTS = ["C order", "transposed gradient", "every second column", "both in Fortran order"]
RULES = [
    "thalweg AdamW",
    "thalweg AdamW, ignore",
    "thalweg AdamW, clipped",
    "thalweg AdamW, float64",
    "thalweg AMSGrad, ignore",
    "thalweg SGD, momentum, ignore",
    "thalweg SGD, ignore",
]
STATS = ["AdamW, default", "AdamW, default, stats", "AdamW, ignore", "AdamW, ignore, stats"]
MIRRORS = [f"{name}, {dtype}" for dtype in SIZES for name in ("Accumulator.add", "EMA.update")]
# A comparison prints its rows twice: of steps in a loop, and repeated.
ROWS = {
    "forms": 2 * 2 * FORMS,
    "magnitudes": 2 * 3 * ["1e-45", "1e-23", "1e-1", "1e-320", "1e-160", "1e0"],
    "layouts": [*2 * [*LAYOUTS[:3], "float64 gradient", *LAYOUTS[3:]], *2 * LAYOUTS],
    "rules": 2 * RULES,
    "loop": [*2 * STATS[:2], *2 * STATS[2:], *2 * MIRRORS],
    "memory": [f"{rule} {dtype}" for dtype in SIZES for rule in STATE],
    "imports": ["numpy", "thalweg", "thalweg over numpy"],
    "threads": 4 * ["8,192", "16,384"],
}


@pytest.mark.parametrize("section", ROWS)
def test_a_section_prints_its_rows(section: str, run: Run) -> None:
    printed = run("steps", "--tiny", "--rounds", "1", "--only", section)
    assert f"\n{section}: " in printed
    assert names_of(printed) == ROWS[section]
    if section == "magnitudes":
        for line in (r"after 70 zero gradients: \d+\.\d\d", r"worst \d+\.\d\d, .* at 1e-?\d+; .*"):
            assert len(re.findall(f"^{line}$", printed, re.MULTILINE)) == 2 * 3 * len(SIZES)
    if section == "memory":
        for name, *cells in rows_of(printed):
            state, growth, array = (float(cell.replace(",", "")) for cell in cells)
            rule, dtype = name.rsplit(" ", 1)
            assert state == STATE[rule] * SIZES[dtype]
            assert growth < array


@pytest.mark.usefixtures("run")
def test_every_section_is_tested() -> None:
    assert list(import_module("steps").SECTIONS) == list(ROWS)


def test_the_program_measures_the_chosen_section() -> None:
    chosen = ("--tiny", "--rounds", "1", "--only", "rules", "--elements", "1000")
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, BENCHES / "steps.py", *chosen], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert names_of(ended.stdout) == ROWS["rules"]
    assert "\none tensor of 1,000, in a loop\n" in ended.stdout
    assert "\none tensor of 1,000, repeated\n" in ended.stdout


def test_a_wrong_result_ends_the_program(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = replace(CONTENDERS["thalweg"], build=NumpyLoop)
    monkeypatch.setattr(import_module("sections.rules"), "RULES", [wrong])
    with pytest.raises(SystemExit) as end:
        run("steps", "--tiny", "--only", "rules")
    assert end.value.code == 1
    assert "thalweg AdamW failed its check and is not timed" in capsys.readouterr().out


def test_checkpoints_are_timed_and_no_file_is_left(tmp_path: Path, run: Run) -> None:
    printed = run("checkpoints", tmp_path, "--tiny")
    ours = ["NumPy, tofile", "opt.save", "NumPy, fromfile", "opt.load", "read_checkpoint"]
    assert [name for name in names_of(printed) if name in ours] == 2 * ours
    for name, *_, speed in rows_of(printed):
        if name.startswith("NumPy"):
            assert speed == "1.00"
    assert list(tmp_path.iterdir()) == []


def test_estimators_are_timed(run: Run) -> None:
    # With more, threads wait for each other while other tests run.
    with threadpool_limits(1):
        printed = run("sklearn_mlp", "--small", "--rounds", "1")
    assert names_of(printed) == 2 * ["scikit-learn", "thalweg", "thalweg, adamw"]


def test_optimizers_of_tensors_are_timed(run: Run, request: pytest.FixtureRequest) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    thalweg.set_num_threads(1)  # torch then uses the same number
    assert names_of(run("torch_steps", "--only", "mlp", "--rounds", "1")) == 2 * [
        "thalweg.torch AdamW",
        "the same, ignore",
        "torch AdamW, fused",
        "torch AdamW, foreach",
        "torch AdamW, for-loop",
    ]


def test_rows_of_a_table(run: Run) -> None:
    printed = run("rows", "--heights", 1_000, 2_000, "--steps", 2)
    kinds = [line.split()[1] for line in printed.splitlines()[2:]]
    assert kinds == ["distinct", "drawn"] * 2

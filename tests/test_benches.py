"""The benchmarks of steps and checkpoints run, and their figures that are no times are right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

import pytest

Rows: TypeAlias = list[tuple[str, list[float]]]

BENCHES = Path(__file__).parents[1] / "benches"
FORMS = ["flat dict", "list", "nested", "nested, gradients by name"]
LAYOUTS = ["C order", "transposed gradient", "every second column", "both in Fortran order"]
STATE = {"AdamW": 2, "AMSGrad": 3, "SGD momentum": 1, "SGD": 0}
SIZES = {"float32": 4, "float64": 8}


def run(*arguments: str | Path, program: str = "steps.py") -> dict[str, str]:
    """What the benchmark prints, by section."""
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, BENCHES / program, *arguments], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    _, *parts = re.split(r"^(\w+): .*\n", ended.stdout, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def rows_of(text: str) -> Rows:
    """Names and numbers of the rows below the headings of tables."""
    cells = [re.split(" {2,}", line) for line in text.splitlines()]
    number = re.compile(r"-?[\d,]+(\.\d\d)?")
    return [
        (name, [float(cell.replace(",", "")) for cell in rest])
        for name, *rest in cells
        if rest and all(map(number.fullmatch, rest))
    ]


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    return run("--tiny")


EXPECTED = {
    "forms": [*FORMS, *FORMS],
    "magnitudes": 2 * 3 * ["1e-45", "1e-23", "1e-1", "1e-320", "1e-160", "1e0"],
    "layouts": [*LAYOUTS[:3], "float64 gradient", *LAYOUTS[3:], *LAYOUTS],
    "rules": [
        "AdamW, ignore",
        "AdamW, default",
        "AdamW, default, max_norm",
        "AMSGrad, ignore",
        "SGD momentum, ignore",
        "SGD, ignore",
        "AdamW, ignore",
    ],
    "loop": ["AdamW, default", "AdamW, ignore", *2 * ["Accumulator.add", "EMA.update"]],
    "memory": [f"{rule} {dtype}" for dtype in SIZES for rule in STATE],
    "imports": ["numpy", "thalweg", "thalweg over numpy"],
    "threads": 4 * ["8,192", "16,384"],
}


def test_there_is_no_other_section(printed: dict[str, str]) -> None:
    assert list(printed) == list(EXPECTED)


@pytest.mark.parametrize("section", EXPECTED)
def test_a_section_prints_its_rows(printed: dict[str, str], section: str) -> None:
    assert [name for name, _ in rows_of(printed[section])] == EXPECTED[section]


def test_magnitudes_tell_the_worst_and_what_zero_gradients_leave(printed: dict[str, str]) -> None:
    for line in (r"after 70,000 zero gradients: \d+\.\d\d", r"worst \d+\.\d\d, .* at 1e-?\d+; .*"):
        found = re.findall(f"^{line}$", printed["magnitudes"], re.MULTILINE)
        assert len(found) == 2 * 3 * len(SIZES)


def test_state_has_the_size_that_its_rule_needs(printed: dict[str, str]) -> None:
    found = {name: numbers[0] for name, numbers in rows_of(printed["memory"])}
    assert found == {
        f"{rule} {dtype}": size * arrays
        for dtype, size in SIZES.items()
        for rule, arrays in STATE.items()
    }


def test_steps_allocate_less_than_an_array(printed: dict[str, str]) -> None:
    for _, (_, growth, array) in rows_of(printed["memory"]):
        assert growth < array


def test_sections_and_rounds_can_be_chosen() -> None:
    printed = run("--tiny", "--rounds", "1", "--only", "rules", "--elements", "1000")
    assert list(printed) == ["rules"]
    assert "1,000 float32" in printed["rules"]


def test_checkpoints_are_timed_and_nothing_is_left(tmp_path: Path) -> None:
    printed = run(tmp_path, "--tiny", program="checkpoints.py")
    assert list(printed) == ["few", "many"]
    for text in printed.values():
        rows = dict(rows_of(text))
        ours = ["NumPy, tofile", "opt.save", "NumPy, fromfile", "opt.load", "read_checkpoint"]
        assert [name for name in rows if name in ours] == ours
        assert rows["NumPy, tofile"][2] == rows["NumPy, fromfile"][2] == 1.0
    assert list(tmp_path.iterdir()) == []

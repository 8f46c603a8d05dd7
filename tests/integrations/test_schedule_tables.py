"""The tables of `docs/schedules.md` and `docs/coming_from.md` against schedules of other libraries.

The cells of the tables are evaluated as code. Values of optax are computed by optax where it is
installed; those of Keras by the formulas in its docstrings.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from thalweg import schedule

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parents[2] / "docs"

NUMBERS = {"a": 0.5, "b": 0.05, "i": 0.1, "r": 0.7, "e": 1.7, "d": 20.0, "f": 100.0}
COUNTS = {"N": 43, "W": 6, "p": 2, "k": 7, "m": 11}

OF_S = {"init_value": 0.1, "peak_value": 1.0, "warmup_steps": 3, "decay_steps": 43}
OF_T = {**OF_S, "peak_value": 0.4, "warmup_steps": 9, "decay_steps": 20, "end_value": 0.2}


def keras_inverse_time(
    initial: float, decay_steps: int, decay_rate: float, *, staircase: bool = False
) -> Callable[[int], float]:
    def at(step: int) -> float:
        passed = step // decay_steps if staircase else step / decay_steps
        return initial / (1 + decay_rate * passed)

    return at


def keras_cosine(
    initial: float, decay_steps: int, alpha: float, *, warmup_target: float, warmup_steps: int
) -> Callable[[int], float]:
    def at(step: int) -> float:
        if step < warmup_steps:
            return initial + (warmup_target - initial) * step / warmup_steps
        passed = min(step - warmup_steps, decay_steps) / decay_steps
        return warmup_target * ((1 - alpha) * (1 + math.cos(math.pi * passed)) / 2 + alpha)

    return at


def as_warmup_cosine(arguments: dict[str, Any]) -> schedule.Schedule:
    """thalweg's schedule for `warmup_cosine_decay_schedule` with these arguments."""
    names = {
        "i": arguments["init_value"],
        "a": arguments["peak_value"],
        "W": arguments["warmup_steps"],
        "N": arguments["decay_steps"],
        "b": arguments.get("end_value", 0.0),
        "e": 1.0,
    }
    found: schedule.Schedule = here(OURS["warmup_cosine_decay_schedule"], **names)
    return found


def here(code: str, **names: Any) -> Any:
    return eval(code, {**vars(schedule), "schedule": schedule, **NUMBERS, **COUNTS, **names})  # noqa: S307 - our own page


def rows(page: str) -> list[list[str]]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]


SCHEDULES = [row for row in rows("schedules.md") if len(row) == 4]
ONE = re.compile(r"`([^`]*)`")
WHOLE = [
    (ours[1], theirs[1])
    for row in SCHEDULES
    for ours, theirs in [(ONE.fullmatch(row[0]), ONE.fullmatch(row[2]))]
    if ours and theirs and not theirs[1].startswith("join")
]
OURS = {theirs.partition("(")[0]: ours for ours, theirs in WHOLE}


def assert_equal_steps(ours: Any, theirs: Callable[[int], Any], tolerance: float) -> None:
    wanted = [float(theirs(n)) for n in range(90)]
    got = [ours(n + 1) for n in range(90)]
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize(("ours", "theirs"), WHOLE, ids=str)
def test_rows_for_optax_have_the_values_of_optax(ours: str, theirs: str) -> None:
    optax = pytest.importorskip("optax")
    other = eval(f"optax.{theirs}", {"optax": optax, **NUMBERS, **COUNTS})  # noqa: S307 - our own page
    assert_equal_steps(here(ours), other, 1e-5)  # optax computes in float32


def test_sgdr_of_optax_is_schedules_joined_by_then() -> None:
    optax = pytest.importorskip("optax")
    (row,) = (row for row in SCHEDULES if "sgdr_schedule" in row[2])
    code = ONE.match(row[0])
    assert code
    joined = here(code[1], s=as_warmup_cosine(OF_S), t=as_warmup_cosine(OF_T))
    assert_equal_steps(joined, optax.sgdr_schedule([OF_S, OF_T]), 1e-5)


def test_the_page_coming_from_optax_has_the_values_of_optax() -> None:
    optax = pytest.importorskip("optax")
    (row,) = (r for r in rows("coming_from.md") if "warmup_cosine_decay_schedule" in r[0])
    theirs, ours = (cell.strip("`") for cell in row)
    other = eval(f"optax.{theirs}", {"optax": optax, **NUMBERS, **COUNTS})  # noqa: S307 - our own page
    assert_equal_steps(here(ours), other, 1e-5)


@pytest.mark.parametrize("page", ["schedules.md", "coming_from.md"])
def test_rows_for_keras_have_the_values_of_keras(page: str) -> None:
    names = {"InverseTimeDecay": keras_inverse_time, "CosineDecay": keras_cosine}
    checked = 0
    for row in rows(page):
        cells = [row[0], row[3]] if len(row) == 4 else [row[1], row[0]]
        ours, theirs = (ONE.match(cell) for cell in cells)
        if not ours or not theirs or "(" not in theirs[1]:
            continue
        if theirs[1].startswith("InverseTimeDecay") or "warmup_target=a" in theirs[1]:
            assert_equal_steps(here(ours[1], e=1.0), here(theirs[1], **names), 1e-12)
            checked += 1
    assert checked == {"schedules.md": 3, "coming_from.md": 1}[page]

"""What the study says of schedules, from made-up runs of known speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from thalweg_study import statistics
from thalweg_study.claim import Chapter, Setting
from thalweg_study.claims import CLAIMS, schedules
from thalweg_study.claims.schedules import experiment, judging
from thalweg_study.methods import METHODS
from thalweg_study.schedules import SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

QUICK = Setting("digits", thorough=False)
BEST_LR = 0.02
EQUAL = dict.fromkeys(experiment.LABELS, 1.0)


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 200)


class Laboratory:
    """Makes up runs: schedules of a speed have at the end what others have later.

    ``way`` is the speed on the way of a long run, by which restarts differ from one cosine.
    """

    def __init__(
        self, speed: Mapping[str, float], way: Mapping[str, float], noise: float = 0.0005
    ) -> None:
        self.speed = {**EQUAL, **speed}
        self.way = {**self.speed, **way}
        self.noise = noise
        self.generator = np.random.default_rng(1)
        self.tasks: list[Any] = []

    def __call__(self, tasks: Sequence[Any]) -> list[dict[str, Any]]:
        self.tasks.extend(tasks)
        return [self.record(task) for task in tasks]

    def record(self, task: Any) -> dict[str, Any]:
        looks = [task.epochs * (i + 1) // task.looks for i in range(task.looks)]
        end = self.error(task, task.epochs, self.speed)
        errors = [self.error(task, epoch, self.way) for epoch in looks[:-1]]
        curves = {"epoch": looks, "test_error": [*errors, end][: len(looks)]}
        return {"validation_error": end, "test_error": end, "curves": curves}

    def error(self, task: Any, epochs: int, speed: Mapping[str, float]) -> float:
        detour = 0.02 * abs(np.log(task.lr / BEST_LR))
        learned = 0.3 / (epochs * speed[task.schedule])
        return float(0.04 + detour + learned + self.noise * self.generator.standard_normal())


def study(
    speed: Mapping[str, float], way: Mapping[str, float] | None = None, noise: float = 0.0005
) -> Chapter:
    return schedules.study(QUICK, Laboratory(speed, way or {}, noise))


def outcome(chapter: Chapter, start: str) -> str:
    (found,) = [v.outcome for v in chapter.verdicts if v.sentence.startswith(start)]
    return found


@pytest.mark.parametrize(
    ("speed", "noise", "expected"),
    [(3.0, 0.0005, "holds"), (0.4, 0.0005, "does not hold"), (1.0, 0.01, "undecided")],
)
def test_one_cycle_is_faster_if_it_needs_fewer_epochs(
    speed: float, noise: float, expected: str
) -> None:
    chapter = study({"one-cycle": speed}, noise=noise)
    assert outcome(chapter, "With AdamW, one cycle") == expected


@pytest.mark.parametrize(
    ("speed", "noise", "expected"),
    [(2.0, 0.0005, "holds"), (0.5, 0.0005, "does not hold"), (1.0, 0.01, "undecided")],
)
def test_cosine_is_better_if_it_ends_lower(speed: float, noise: float, expected: str) -> None:
    chapter = study({"cosine": speed}, noise=noise)
    better = [v for v in chapter.verdicts if "ends with a lower error" in v.sentence]
    assert [v.outcome for v in better] == [expected, expected]


@pytest.mark.parametrize(
    ("way", "noise", "expected"),
    [(0.5, 0.0005, "holds"), (2.0, 0.0005, "does not hold"), (1.0, 0.01, "undecided")],
)
def test_restarts_are_better_at_any_time_if_a_long_cosine_is_behind_on_its_way(
    way: float, noise: float, expected: str
) -> None:
    chapter = study({}, {"cosine": way}, noise)
    assert outcome(chapter, "Warm restarts") == expected


@pytest.mark.parametrize(
    ("way", "noise", "expected"),
    [(1.0, 0.0005, "holds"), (0.5, 0.0005, "does not hold"), (1.0, 0.01, "undecided")],
)
def test_restarts_are_near_the_cosine_of_just_that_length(
    way: float, noise: float, expected: str
) -> None:
    chapter = study({}, {"restarts": way}, noise)
    assert outcome(chapter, "Whenever a cycle ends") == expected


def test_epochs_needed_lie_between_budgets_and_may_be_too_many() -> None:
    budgets, means = (10, 40, 160), np.array([0.10, 0.06, 0.08])
    assert judging.epochs_needed(budgets, means, 0.08) == pytest.approx(20)
    assert judging.epochs_needed(budgets, means, 0.2) == 10
    assert judging.epochs_needed(budgets, means, 0.05) == judging.NEVER


def test_a_target_that_is_not_reached_is_reported_as_such() -> None:
    chapter = study({"one-cycle": 0.1})
    figures = chapter.verdicts[0].figures
    assert f"one-cycle more than {experiment.LONGEST}" in figures


def test_validation_chooses_the_learning_rate_and_other_seeds_compare() -> None:
    laboratory = Laboratory({}, {})
    schedules.study(QUICK, laboratory)
    compared = [task for task in laboratory.tasks if task.seed >= experiment.QUICK.tuning_seeds]
    assert {task.lr for task in compared} == {BEST_LR}
    assert {task.lr for task in laboratory.tasks} == set(experiment.QUICK.lrs)


def test_the_plan_costs_what_is_performed() -> None:
    laboratory = Laboratory({}, {})
    schedules.study(QUICK, laboratory)
    planned = schedules.plan(QUICK)
    assert sum(task.cost for task in planned) == pytest.approx(
        sum(task.cost for task in laboratory.tasks)
    )
    assert len(planned) == len(laboratory.tasks)


def test_the_chapter_shows_what_it_says() -> None:
    chapter = study({"one-cycle": 2.0})
    assert [picture.name for picture in chapter.pictures] == [
        "schedules-curves",
        "schedules-budgets",
        "schedules-anytime",
        "schedules-rates",
    ]
    assert all(picture.figure.axes for picture in chapter.pictures)
    for table in chapter.tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert [row[0] for row in table.rows] == list(experiment.LABELS.values())
    rates = chapter.tables[1].rows
    assert {cell for row in rates for cell in row[1:] if cell} == {f"{BEST_LR:g}"}


def test_a_run_that_stopped_counts_as_guessing_from_there_on() -> None:
    class Stopping(Laboratory):
        def record(self, task: Any) -> dict[str, Any]:
            record = super().record(task)
            if task.schedule == "restarts":
                curves = record["curves"]
                record["curves"] = {name: values[:3] for name, values in curves.items()}
            return record

    chapter = schedules.study(QUICK, Stopping({}, {}))
    assert outcome(chapter, "Whenever a cycle ends") == "does not hold"
    assert "90.00%" in chapter.tables[0].rows[3][-2]


@pytest.mark.parametrize("budget", experiment.CYCLES)
def test_cycles_of_the_restarts_end_at_the_budgets(budget: int) -> None:
    steps = 10
    eta = SCHEDULES["restarts"](experiment.LONGEST * steps)
    last = budget * steps
    assert eta(last) < 0.01
    assert eta(last + 1) == 1


@pytest.mark.parametrize("method", [method for method in METHODS if method != "adagrad"])
def test_one_cycle_has_the_mirrored_momentum_with_it(method: str) -> None:
    for name, expected in (("one-cycle", 0.85), ("cosine", 0.9)):
        params = {"w": np.ones((2, 2)), "b": np.ones(2)}
        optimizer = METHODS[method].build(params, 0.01, 0.0, SCHEDULES[name](100))
        given = optimizer.groups[0]
        momentum = given.betas[0] if hasattr(given, "betas") else given.momentum
        assert (momentum(30) if callable(momentum) else momentum) == expected


def test_it_is_on_the_command_line() -> None:
    assert CLAIMS["schedules"] is schedules

"""What the study says of normalized decay, from made-up runs whose best decay is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from thalweg_study import statistics
from thalweg_study.claim import Chapter, Setting
from thalweg_study.claims import CLAIMS, normalized_decay
from thalweg_study.claims.normalized_decay import experiment, judging

if TYPE_CHECKING:
    from collections.abc import Sequence

QUICK = Setting("digits", thorough=False)


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 200)


class Laboratory:
    """Makes up runs whose best decay moves with a power of the steps, and keeps what was asked."""

    def __init__(self, power: float, noise: float = 0.001, unsteady: float = 0.0) -> None:
        self.power = power
        self.noise = noise
        self.unsteady = unsteady
        self.generator = np.random.default_rng(0)
        self.tasks: list[Any] = []

    def __call__(self, tasks: Sequence[Any]) -> list[dict[str, Any]]:
        self.tasks.extend(tasks)
        return [self.record(task) for task in tasks]

    def record(self, task: Any) -> dict[str, Any]:
        # A seed may have a power of its own, so that the best decay of all is uncertain.
        power = self.power + self.unsteady * (-1) ** task.seed
        best = 10**-2.25 * (task.steps / 226) ** power
        error = 0.1 * (1 + 0.4 * np.log10(task.decay / best) ** 2)
        measured = [error + self.noise * self.generator.standard_normal() for _ in range(3)]
        names = ("validation_error", "test_error", "validation_loss")
        return dict(zip(names, measured, strict=True))


def study(laboratory: Laboratory) -> Chapter:
    return normalized_decay.study(QUICK, laboratory)


def outcomes(chapter: Chapter) -> list[str]:
    return [verdict.outcome for verdict in chapter.verdicts]


@pytest.mark.parametrize("power", [0.0, -0.5, -1.0])
def test_the_slope_is_the_one_that_was_put_in(power: float) -> None:
    laboratory = Laboratory(power)
    tasks = experiment.tuning_tasks(QUICK, experiment.QUICK)
    found = judging.slope(experiment.Grid(experiment.QUICK, tasks, laboratory(tasks)))
    assert found.estimate == pytest.approx(power, abs=0.07)
    assert found.low <= found.estimate <= found.high


@pytest.mark.parametrize(
    ("power", "expected"),
    [
        (-0.5, ["holds", "holds", "holds", "holds"]),
        (-1.0, ["holds", "holds", "does not hold", "holds"]),
        (0.0, ["does not hold", "does not hold", "does not hold", "does not hold"]),
    ],
)
def test_verdicts_follow_the_power(power: float, expected: list[str]) -> None:
    assert outcomes(study(Laboratory(power))) == expected


def test_runs_that_disagree_decide_nothing() -> None:
    chapter = study(Laboratory(-0.3, noise=0.004, unsteady=1.2))
    assert outcomes(chapter) == ["undecided"] * 4


def test_the_plan_costs_what_is_performed() -> None:
    laboratory = Laboratory(-0.5)
    study(laboratory)
    planned = normalized_decay.plan(QUICK)
    assert sum(task.cost for task in planned) == pytest.approx(
        sum(task.cost for task in laboratory.tasks)
    )
    assert len(planned) == len(laboratory.tasks)


def test_seeds_that_choose_do_not_compare() -> None:
    laboratory = Laboratory(-0.5)
    study(laboratory)
    budgets = {task.epochs for task in laboratory.tasks}
    compared = [t for t in laboratory.tasks if t.decay not in experiment.QUICK.decays]
    assert {task.epochs for task in compared} == {max(budgets)}
    choosing = {task.seed for task in laboratory.tasks if task not in compared}
    assert not choosing & {task.seed for task in compared}


def test_the_chapter_shows_what_it_says() -> None:
    chapter = study(Laboratory(-0.5))
    assert [picture.name for picture in chapter.pictures] == [
        "normalized-decay-basins",
        "normalized-decay-slope",
        "normalized-decay-costs",
    ]
    assert all(picture.figure.axes for picture in chapter.pictures)
    for table in chapter.tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
    power = chapter.verdicts[0].figures.split("power ")[1].split(". ")[0]
    assert power in chapter.pictures[1].description
    assert power == chapter.tables[1].rows[0][1]


def test_the_thorough_study_looks_at_other_learning_rates_too() -> None:
    scales = (experiment.QUICK, experiment.FULL)
    quick, thorough = ({t.lr for t in experiment.tuning_tasks(QUICK, scale)} for scale in scales)
    assert quick < thorough


def test_it_is_on_the_command_line() -> None:
    assert CLAIMS["normalized-decay"] is normalized_decay

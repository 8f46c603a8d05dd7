"""Generalisation is judged by its rules: on made-up runs whose differences are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from made_up import noise, performing, record
from thalweg_study.claim import Setting
from thalweg_study.claims import generalisation
from thalweg_study.claims.generalisation.experiment import METHODS, error_at_loss

if TYPE_CHECKING:
    from thalweg_study.claim import Chapter

QUICK = Setting("digits", thorough=False)


def chapter(**errors: float) -> Chapter:
    """With the mean errors of methods, 0.05 if not given, the best in the middle of each grid."""

    def make(task):  # noqa: ANN001, ANN202 - a training to its record
        far = 0.0 if task.looks else 0.01 * abs(np.log10(task.lr) + 2)
        return record(errors.get(task.method, 0.05) + far + 0.0005 * noise(task))

    perform, _ = performing(make)
    return generalisation.study(QUICK, perform)


def outcomes(found: Chapter) -> list[str]:
    return [verdict.outcome for verdict in found.verdicts]


def test_the_claims_hold_where_adamw_is_better_than_adam_and_equal_to_sgdw() -> None:
    assert outcomes(chapter(adam=0.06)) == ["holds", "holds", "holds"]


def test_they_do_not_where_it_is_no_better_and_worse_than_sgdw() -> None:
    assert outcomes(chapter(adam=0.0495, sgdw=0.04)) == ["does not hold"] * 3


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(lambda task: 1e-2 if task.lr > 0.01 else 1e-3, "holds"), (lambda _: 1e-3, "undecided")],
)
def test_equal_training_loss_is_that_of_runs_that_have_ended(loss, expected: str) -> None:  # noqa: ANN001
    """The best of Adam fits better than that of AdamW; what fits as AdamW does is worse."""

    def make(task):  # noqa: ANN001, ANN202 - a training to its record
        adam = task.method == "adam"
        error = 0.06 if adam and task.lr > 0.01 else 0.05
        train_loss = loss(task) if adam else 1e-2
        return record(error + 0.0005 * noise(task)) | {"train_loss": train_loss}

    perform, _ = performing(make)
    at_the_end, at_equal_loss, _ = outcomes(generalisation.study(QUICK, perform))
    assert at_the_end != "holds"
    assert at_equal_loss == expected


def test_the_seeds_that_compare_are_not_those_that_tuned_and_all_methods_have_the_same() -> None:
    perform, given = performing(lambda _: record(0.05))
    generalisation.study(QUICK, perform)
    tuning = {task.seed for task in given if not task.looks}
    comparing = [(task.method, task.seed) for task in given if task.looks]
    seeds = sorted({seed for _, seed in comparing})
    assert not tuning & set(seeds)
    assert len(seeds) >= 10
    assert comparing == [(method, seed) for method in METHODS for seed in seeds]


def test_the_best_of_the_grid_is_what_is_compared() -> None:
    def make(task):  # noqa: ANN001, ANN202 - a training to its record
        return record(0.04 if (task.lr, task.decay) == (0.01, 0.1) else 0.05)

    perform, given = performing(make)
    found = generalisation.study(QUICK, perform)
    chosen = {(task.lr, task.decay) for task in given if task.looks and task.method == "adamw"}
    assert chosen == {(0.01, 0.1)}
    row = next(row for row in found.tables[0].rows if row[0] == "AdamW")
    assert row[1:3] == ("0.01", "0.1")


def test_a_best_that_is_at_an_end_of_the_grid_is_said_to_be() -> None:
    perform, _ = performing(lambda task: record(0.05 + 0.001 * task.lr))
    found = generalisation.study(QUICK, perform)
    assert "The best of Adam + L2 and AdamW is at an end of what" in found.verdicts[0].figures
    assert all(row[1].endswith("*") for row in found.tables[0].rows)


@pytest.mark.parametrize("setting", [QUICK, Setting("mnist5k", thorough=True)])
def test_what_is_planned_costs_what_is_performed(setting: Setting) -> None:
    perform, given = performing(lambda task: record(0.05 + 0.0005 * noise(task)))
    found = generalisation.study(setting, perform)
    planned = generalisation.plan(setting)
    assert sum(task.cost for task in planned) == pytest.approx(sum(task.cost for task in given))
    assert len(planned) == len(given)
    models = 2 if setting.thorough else 1
    assert len(found.verdicts) == 3 * models
    assert len(found.pictures) == 2 * models


def test_test_error_is_read_where_the_training_loss_came_down_to_a_level() -> None:
    losses, errors = [1.0, 0.01, 0.02, 1e-4], [0.4, 0.2, 0.3, 0.1]
    run = {"curves": {"train_loss": losses, "test_error": errors}}
    assert error_at_loss(run, 2.0) == 0.4
    assert error_at_loss(run, 0.1) == pytest.approx(0.3)
    assert error_at_loss(run, 0.02) < 0.3  # the first time that it was so low
    assert error_at_loss(run, 0.01) == pytest.approx(0.2)
    assert error_at_loss(run, 1e-4) == pytest.approx(0.1)
    assert error_at_loss(run, 1e-9) == 0.1

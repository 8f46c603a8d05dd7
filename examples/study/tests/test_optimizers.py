"""The other rules are judged by stated rules: on made-up runs whose differences are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from made_up import noise, performing, record
from thalweg_study.claim import Setting
from thalweg_study.claims import optimizers
from thalweg_study.claims.optimizers.experiment import METHODS, OTHERS, PAIRS, run
from thalweg_study.claims.optimizers.judging import label_of, table, verdicts
from thalweg_study.grids import FIRST_SEED
from thalweg_study.methods import METHODS as DESCRIBED

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalweg_study.claim import Verdict
    from thalweg_study.claims.optimizers.experiment import Results
    from thalweg_study.task import Record
    from thalweg_study.training import Training

QUICK = Setting("digits", thorough=False)
FULL = Setting("digits", thorough=True)


def away(task: Training, lr: float = -2, decay: float = -0.5) -> float:
    """More error the farther a setting is from the best, which lies inside the grid."""
    return 0.01 * (abs(np.log10(task.lr) - lr) + abs(np.log10(task.decay) - decay))


def results(make: Callable[[Training], Record]) -> Results:
    return run(QUICK, performing(make)[0])


def ending(errors: dict[str, float], deviation: float = 1e-5) -> Callable[[Training], Record]:
    """Make up runs with the mean errors of rules, 0.05 if not given."""

    def make(task: Training) -> Record:
        return record(errors.get(task.method, 0.05) + away(task) + deviation * noise(task))

    return make


def judged(make: Callable[[Training], Record]) -> dict[str, Verdict]:
    """Return the verdicts on every rule, and on the order."""
    return dict(zip((*OTHERS, "order"), verdicts(results(make)), strict=True))


def outcomes(make: Callable[[Training], Record]) -> dict[str, str]:
    return {name: verdict.outcome for name, verdict in judged(make).items()}


def rows(make: Callable[[Training], Record]) -> dict[str, tuple[str, ...]]:
    """Return the cells of the table by the name of the rule."""
    return {row[0]: row for row in table(results(make)).rows}


def test_a_rule_is_better_equal_or_worse_than_adamw_by_its_whole_interval() -> None:
    found = judged(ending({"lion": 0.04, "sgdw": 0.06, "cautious": 0.0499}))
    holding = [name for name, verdict in found.items() if verdict.outcome == "holds"]
    assert holding == ["lion", "cautious"]
    assert {verdict.outcome for verdict in found.values()} == {"holds", "does not hold"}
    assert "Lion minus AdamW: -1.00 (-1.00 to -1.00)" in found["lion"].figures
    assert "SGDW minus AdamW: +1.00 (+1.00 to +1.00)" in found["sgdw"].figures


def test_differences_that_are_lost_in_the_noise_are_undecided() -> None:
    found = outcomes(ending({"lion": 0.049}, deviation=0.005))
    assert found.pop("order") == "does not hold"
    assert set(found.values()) == {"undecided"}


def test_intervals_are_wider_where_many_hold_together() -> None:
    """A difference that two rules alone would show is not told among eleven."""
    seeds = 10

    def make(task: Training) -> Record:
        # Student's quotient of the differences is 2.8: more than 2.3, less than 3.7.
        error = 0.05 + 0.003 * (-1) ** task.seed * (task.method != "adamw")
        gain = 2.8 * 0.003 / np.sqrt(seeds - 1) if task.method == "lion" else 0.0
        return record(error - gain + (away(task) if task.seed < FIRST_SEED else 0.0))

    assert outcomes(make)["lion"] == "undecided"


def test_an_order_is_told_if_every_pair_is() -> None:
    errors = {method: 0.04 + 0.01 * place for place, method in enumerate(METHODS)}
    last = judged(ending(errors))["order"]
    assert last.outcome == "holds"
    assert f"{len(PAIRS)} of {len(PAIRS)} pairs" in last.figures
    assert "AdamW has the lowest mean" in last.figures
    assert last.figures.endswith("all others.")

    same = judged(ending(errors | {"nadamw": 0.04}))["order"]
    assert same.outcome == "does not hold"
    assert f"{len(PAIRS) - 1} of {len(PAIRS)} pairs" in same.figures
    assert same.figures.endswith(("all but NAdamW.", "all but AdamW."))


@pytest.mark.parametrize("setting", [QUICK, FULL])
def test_the_grid_the_seeds_and_the_budget_are_the_same_for_all(setting: Setting) -> None:
    perform, given = performing(lambda task: record(0.05 + 0.0005 * noise(task)))
    run(setting, perform)

    def tried(method: str, one: Callable[[Training], object], tuning: bool) -> list[object]:
        return [
            one(task)
            for task in given
            if task.method == method and (task.seed < FIRST_SEED) == tuning
        ]

    for method in METHODS:
        for tuning in (True, False):
            budget = [
                tried(name, lambda task: (task.seed, task.epochs, task.size), tuning)
                for name in ("adamw", method)
            ]
            assert budget[0] == budget[1]
        grids = [
            tried(name, lambda task: (task.lr, task.decay), True) for name in ("adamw", method)
        ]
        assert grids[0] == grids[1]
        assert len(set(tried(method, lambda task: (task.lr, task.decay), False))) == 1
    schedules = {(task.method, task.schedule) for task in given}
    assert schedules == {
        (method, "fixed" if method == "schedule-free" else "cosine") for method in METHODS
    }
    planned = optimizers.plan(setting)
    assert len(planned) == len(given) == len(set(given))
    assert sum(task.cost for task in planned) == pytest.approx(sum(task.cost for task in given))


def test_the_seeds_that_compare_are_not_those_that_tuned_and_choose_nothing() -> None:
    def make(task: Training) -> Record:
        best = (task.lr, task.decay) == (0.01, 0.316)
        return record(0.05) | {"validation_error": 0.04 if best else 0.05}

    perform, given = performing(make)
    rows = table(run(QUICK, perform)).rows
    comparing = [task for task in given if task.seed >= FIRST_SEED]
    assert len({task.seed for task in comparing}) >= 10
    assert {(task.lr, task.decay) for task in comparing} == {(0.01, 0.316)}
    assert all(row[1:3] == ("0.01", "0.316") for row in rows)


def test_a_best_that_is_at_an_end_of_the_grid_is_said_to_be() -> None:
    def make(task: Training) -> Record:
        return record(0.05 + (away(task, lr=0) if task.method == "lion" else away(task)))

    told = [name for name, found in judged(make).items() if "at an end of" in found.figures]
    assert told == ["lion"]
    assert "The best of Lion is at an end of what was tried." in judged(make)["lion"].figures
    found = rows(make)
    assert found["Lion"][1] == "1*"
    assert found["AdamW"][1] == "0.01"


def test_the_table_tells_how_exact_a_learning_rate_must_be_and_what_adamws_setting_costs() -> None:
    def make(task: Training) -> Record:
        lion = task.method == "lion"
        error = 0.02 * abs(np.log10(task.lr) + (3 if lion else 2)) ** 2
        return record(0.05 + error * (0.2 if lion else 1) + away(task, lr=np.log10(task.lr)))

    found = rows(make)
    assert found["AdamW"][-2:] == ("0.01 to 0.01", "-")
    assert found["NAdamW"][-1].startswith("+0.00")
    assert found["Lion"][-2] == "0.0001 to 0.01"
    assert found["Lion"][-1].startswith("+0.40")


def test_pictures_show_all_rules_from_the_lowest_error_and_tell_the_figures() -> None:
    perform, _ = performing(ending({"lion": 0.03, "adagrad": 0.08}))
    chapter = optimizers.study(QUICK, perform)
    assert len(chapter.verdicts) == len(METHODS)
    main, rates = chapter.pictures
    main.figure.draw_without_rendering()
    labels = [label.get_text() for label in main.figure.axes[0].get_yticklabels()]
    assert labels[0] == "Lion   3.00 %"
    assert labels[-1] == "Adagrad + L2   8.00 %"
    assert len(labels) == len(METHODS)
    rates.figure.draw_without_rendering()
    assert {axes.get_title() for axes in rates.figure.axes} == set(map(label_of, OTHERS))
    assert all(label_of(name) in main.description for name in METHODS)
    assert all(label_of(name) in rates.description for name in METHODS)


def test_every_rule_has_a_name_of_its_own() -> None:
    labels = [method.label for method in DESCRIBED.values()]
    assert len(set(labels)) == len(labels)

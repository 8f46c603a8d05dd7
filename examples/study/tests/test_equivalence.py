"""The claim about L2 and weight decay: what the tasks measure, and the rules of the verdicts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from thalweg_study.claim import Setting
from thalweg_study.claims import equivalence
from thalweg_study.trajectory import RULES, Imitation, Trajectory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thalweg_study.claim import Outcome, Verdict
    from thalweg_study.task import Record, Task

QUICK = Setting("digits", thorough=False)
FULL = Setting("digits", thorough=True)
SHRINKAGE = 5e-3
PLAIN, MOMENTUM, LESS_SO, NO_STRENGTH = range(4)


def ends(rule: str, dtype: str = "float64", **kind: Any) -> float:
    end: float = Trajectory("digits", rule, dtype, SHRINKAGE, 30, 0, **kind).perform()["end"]
    return end


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_without_momentum_penalty_and_decay_differ_by_rounding(dtype: str) -> None:
    rounding = float(np.finfo(dtype).eps)

    assert ends("sgd", dtype) < 20 * rounding
    assert 0 < ends("sgd", dtype, control=True) < 100 * rounding


@pytest.mark.parametrize("rule", ["momentum", "adam"])
def test_otherwise_the_distance_does_not_shrink_with_the_precision(rule: str) -> None:
    distance = ends(rule)

    assert distance > 0.1
    assert ends(rule, "float32") == pytest.approx(distance, rel=1e-2)
    assert ends(rule, control=True) < 1e-12


def test_a_penalty_of_another_strength_leads_elsewhere() -> None:
    assert ends("sgd", factor=0.5) > 1e-3


def test_a_trajectory_is_recorded_on_the_way() -> None:
    record = Trajectory("digits", "adam", "float64", SHRINKAGE, 30, 0).perform()

    assert record["steps"][0] == 1
    assert record["steps"][-1] == 30
    assert len(record["distance"]) == len(record["steps"])
    assert record["distance"][-1] == record["end"]
    one, other = np.array(record["paths"])
    assert one[0].tolist() == other[0].tolist() == [0.0, 0.0]
    # In the plane of the principal components nothing is farther apart than it is.
    apart = np.linalg.norm(one[-1] - other[-1])
    come = np.sqrt((one[-1] @ one[-1] + other[-1] @ other[-1]) / 2)
    assert 0.5 * record["end"] < apart / come < 1.5 * record["end"]


@pytest.mark.parametrize(
    ("rule", "factor", "least", "most"),
    [("sgd", 1.0, 0, 1e-12), ("momentum", 0.1, 1e-4, 0.2), ("adam", None, 0.3, 1)],
)
def test_the_best_imitation_is_found(
    rule: str, factor: float | None, least: float, most: float
) -> None:
    record = Imitation("digits", rule, "float64", SHRINKAGE, 40, 0).perform()

    assert least <= record["smallest"] <= most
    assert record["smallest"] <= min(record["distance"])
    assert record["distance"][0] == pytest.approx(1, abs=0.1), "a weak penalty does nothing"
    if factor is not None:
        assert record["best_factor"] == pytest.approx(factor, rel=0.3)


def test_the_same_task_gives_the_same_record() -> None:
    for task in (
        Trajectory("digits", "momentum", "float32", SHRINKAGE, 12, 3),
        Imitation("digits", "sgd", "float32", SHRINKAGE, 12, 3, searches=3),
    ):
        assert task.perform() == task.perform()
        assert json.loads(json.dumps(task.perform())) == task.perform()


@pytest.mark.parametrize("data", ["digits", "mnist5k"])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_learns_from_every_data(data: str, rule: str) -> None:
    assert np.isfinite(Trajectory(data, rule, "float32", SHRINKAGE, 20, 0).perform()["end"])


def invented(
    distance: dict[str, float] | None = None,
    best: float = 1e-2,
    smallest: dict[str, float] | None = None,
    noise: float = 1e-3,
) -> Callable[[Sequence[Task]], list[Record]]:
    """Make up the distances at the end, where the control's is a unit in the last place."""
    distances = {"sgd": 0.0, "momentum": 0.9, "adam": 1.0, **(distance or {})}
    smallests = {"sgd": 0.0, "momentum": 0.02, "adam": 0.7, **(smallest or {})}

    def record(task: Any) -> Record:
        if isinstance(task, Imitation):
            left = smallests[task.rule] + noise * (-1) ** task.seed
            return {
                "factors": [1e-2, 1.0],
                "distance": [1.0, 1.5],
                "best_factor": 0.1,
                "smallest": left,
            }
        assert isinstance(task, Trajectory)
        unit = float(np.finfo(task.dtype).eps)
        end = distances[task.rule] if task.factor == 1 else best
        end = unit if task.control else end * (1 if end > 1e-5 else unit / 2**-52)
        path = [[0.0, 0.0], [1.0, end]]
        return {"steps": [1, task.steps], "distance": [end] * 2, "end": end, "paths": [path] * 2}

    return lambda tasks: [record(task) for task in tasks]


def judged(**made_up: Any) -> tuple[Verdict, ...]:
    return equivalence.study(QUICK, invented(**made_up)).verdicts


ROUNDING = 2.0**-52


@pytest.mark.parametrize(
    ("distance", "outcome"),
    [
        (0.0, "holds"),
        (5 * ROUNDING, "holds"),
        (50 * ROUNDING, "undecided"),
        (0.1, "does not hold"),
    ],
)
def test_plain_descent_is_judged_by_the_control(distance: float, outcome: Outcome) -> None:
    assert judged(distance={"sgd": distance})[PLAIN].outcome == outcome


@pytest.mark.parametrize(
    ("distance", "best", "outcome"),
    [
        (0.5, 1e-2, "holds"),
        (0.5, ROUNDING, "does not hold"),
        (ROUNDING, 1e-2, "does not hold"),
        (0.5, 100 * ROUNDING, "undecided"),
    ],
)
def test_momentum_is_judged_by_the_same_number_and_by_the_best(
    distance: float, best: float, outcome: Outcome
) -> None:
    assert judged(distance={"momentum": distance}, best=best)[MOMENTUM].outcome == outcome


@pytest.mark.parametrize(
    ("momentum", "adam", "noise", "less_so", "no_strength"),
    [
        (0.02, 0.7, 1e-3, "holds", "holds"),
        (0.09, 0.02, 1e-3, "does not hold", "does not hold"),
        (0.5, 0.1, 1e-3, "does not hold", "undecided"),
        (0.3, 0.3, 1e-3, "undecided", "holds"),
    ],
)
def test_adam_is_judged_by_what_the_best_penalty_leaves(
    momentum: float, adam: float, noise: float, less_so: Outcome, no_strength: Outcome
) -> None:
    verdicts = judged(smallest={"momentum": momentum, "adam": adam}, noise=noise)

    assert verdicts[LESS_SO].outcome == less_so
    assert verdicts[NO_STRENGTH].outcome == no_strength
    assert f"{adam:.3f}" in verdicts[NO_STRENGTH].figures


@pytest.mark.parametrize("setting", [QUICK, FULL])
def test_the_plan_costs_what_the_study_performs(setting: Setting) -> None:
    performed: list[Task] = []

    def perform(tasks: Sequence[Task]) -> list[Record]:
        performed.extend(tasks)
        return invented()(tasks)

    chapter = equivalence.study(setting, perform)

    plan = equivalence.plan(setting)
    assert len(plan) == len(performed) == len(set(performed))
    assert sum(task.cost for task in plan) == pytest.approx(sum(task.cost for task in performed))
    assert {task.data for task in plan} == {setting.data}
    assert len(chapter.tables[0].rows) == len(RULES)


def test_pictures_tell_the_figures_to_those_who_do_not_see_them() -> None:
    chapter = equivalence.study(QUICK, invented())

    assert len({picture.name for picture in chapter.pictures}) == len(chapter.pictures) == 3
    for picture in chapter.pictures:
        picture.figure.canvas.draw()
        assert any(character.isdigit() for character in picture.description)

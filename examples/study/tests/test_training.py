"""Training for the study: repeatable, paired by seeds, and honest about runs that diverge."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import thalweg
from thalweg_study.data import DATA
from thalweg_study.methods import METHODS
from thalweg_study.models import MODELS
from thalweg_study.schedules import SCHEDULES
from thalweg_study.training import Training

if TYPE_CHECKING:
    from thalweg_study.task import Record

FOUND = [
    "train_loss",
    "train_error",
    "validation_loss",
    "validation_error",
    "test_loss",
    "test_error",
]
SECONDS = {"gradient_seconds", "optimizer_seconds"}
GOOD = {
    "sgd": (0.1, 3e-3),
    "sgdw": (0.1, 0.1),
    "sgdw-independent": (0.1, 3e-3),
    "adam": (0.01, 3e-3),
    "adamw": (0.01, 0.3),
    "adamw-independent": (0.01, 3e-3),
    "amsgrad": (0.01, 0.3),
    "nadamw": (0.01, 0.3),
    "radamw": (0.01, 0.3),
    "adabelief": (0.01, 0.3),
    "lion": (1e-3, 3.0),
    "rmsprop": (1e-3, 3e-3),
    "adagrad": (0.03, 3e-3),
    "schedule-free": (0.03, 1.0),
    "cautious": (0.01, 1.0),
    "stable": (0.01, 0.3),
}
"""Learning rates and decays that are known to be good."""

BRIEF = Training("digits", "mlp", "adamw", lr=0.01, decay=0.3, epochs=4, seed=11, size=100)


def timeless(record: Record) -> Record:
    return {name: value for name, value in record.items() if name not in SECONDS}


def learns(task: Training) -> None:
    record = task.perform()
    assert record["stopped"] is None
    assert record["test_error"] < 0.15
    assert record["validation_error"] < 0.15
    assert record["train_error"] < record["test_error"]
    assert 0 < record["train_loss"] < record["test_loss"] < math.log(10)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("data", DATA)
def test_the_same_task_finds_the_same(model: str, data: str) -> None:
    task = replace(BRIEF, data=data, model=model, looks=2, epochs=2)
    first, second = task.perform(), task.perform()
    assert timeless(first) == timeless(second)
    assert first["steps"] == task.steps == 2 * math.ceil(100 / 32)
    assert first["stopped"] is None
    assert all(first[name] > 0 for name in SECONDS)
    assert timeless(replace(task, seed=12).perform()) != timeless(first)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("data", DATA)
def test_what_a_task_costs_grows_with_its_steps_and_looks(model: str, data: str) -> None:
    task = replace(BRIEF, data=data, model=model)
    costs = [replace(task, epochs=epochs, looks=4).cost for epochs in (4, 8, 12)]
    assert 0 < task.cost < costs[0] < costs[1]
    assert costs[2] - costs[1] == pytest.approx(costs[1] - costs[0])
    # At the end there always is a look, and an epoch is looked at once.
    assert replace(task, looks=1).cost == task.cost
    assert replace(task, looks=100).cost == costs[0]


def test_looks_on_the_way_are_the_ends_of_shorter_runs() -> None:
    task = replace(BRIEF, schedule="fixed", epochs=6, looks=3)
    curves = task.perform()["curves"]
    assert curves["epoch"] == [2, 4, 6]
    for i, epochs in enumerate(curves["epoch"]):
        end = replace(task, epochs=epochs, looks=0).perform()
        assert {name: curves[name][i] for name in FOUND} == {name: end[name] for name in FOUND}
        assert end["curves"] == {name: [] for name in ("epoch", *FOUND)}


def test_schedule_free_is_looked_at_under_its_average_and_goes_on_from_where_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = replace(BRIEF, method="schedule-free", schedule="fixed")
    found = task.perform()
    watched = replace(task, looks=4).perform()
    assert [watched[name] for name in FOUND] == [found[name] for name in FOUND]
    monkeypatch.setattr(thalweg.ScheduleFreeAdamW, "averaged", lambda _: nullcontext())
    assert task.perform()["test_loss"] != found["test_loss"]


@pytest.mark.parametrize("looks", [5, 6, 100])
def test_an_epoch_is_looked_at_once_at_most(looks: int) -> None:
    curves = replace(BRIEF, epochs=5, looks=looks).perform()["curves"]
    assert curves["epoch"] == [1, 2, 3, 4, 5]


def test_methods_start_from_the_same_weights() -> None:
    ends = [
        timeless(replace(BRIEF, method=method, lr=0.0, decay=0.0).perform()) for method in METHODS
    ]
    assert ends == [ends[0]] * len(METHODS)


@pytest.mark.parametrize(
    "methods",
    [
        ("sgd", "sgdw", "sgdw-independent"),
        ("adam", "adamw", "adamw-independent"),
    ],
)
def test_methods_that_differ_in_decay_only_see_the_same_batches(methods: tuple[str, ...]) -> None:
    ends = [timeless(replace(BRIEF, method=method, decay=0.0).perform()) for method in methods]
    assert ends == [ends[0]] * len(methods)
    decayed = [timeless(replace(BRIEF, method=method, decay=0.1).perform()) for method in methods]
    assert all(end != ends[0] for end in decayed)


def test_a_run_that_diverges_says_when_and_knows_what_one_knows_that_guesses() -> None:
    record = replace(BRIEF, method="sgd", lr=1e4, looks=2).perform()
    # The step that was refused changed nothing, and is not counted.
    assert record["stopped"] == record["steps"] + 1
    assert 1 < record["stopped"] <= BRIEF.steps
    chance = [pytest.approx(math.log(10)), 0.9]
    assert [record[name] for name in FOUND] == chance * 3
    assert record["curves"] == {"epoch": [2, 4], **{name: [record[name]] * 2 for name in FOUND}}


def test_a_run_whose_weights_are_too_large_for_a_loss_has_diverged() -> None:
    record = replace(BRIEF, lr=1e18, size=32, epochs=1, schedule="fixed").perform()
    assert record["stopped"] == record["steps"] == 1
    assert record["test_error"] == 0.9


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("lr", [0.01, 1e3, 1e6, 1e18])
def test_records_are_json(model: str, lr: float) -> None:
    record = replace(BRIEF, model=model, lr=lr, decay=1.0, size=32, looks=4).perform()
    assert json.loads(json.dumps(record, allow_nan=False)) == record


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns(method: str) -> None:
    lr, decay = GOOD[method]
    schedule = "fixed" if method == "schedule-free" else "cosine"
    task = replace(BRIEF, method=method, lr=lr, decay=decay, epochs=30, size=300)
    learns(replace(task, schedule=schedule))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_learns(schedule: str) -> None:
    learns(replace(BRIEF, schedule=schedule, epochs=30, size=300))


@pytest.mark.parametrize("model", MODELS)
def test_every_network_learns(model: str) -> None:
    learns(replace(BRIEF, model=model, epochs=30, size=300))

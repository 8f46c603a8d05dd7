"""Tasks over processes: each once, the same records however many, and nothing finished is lost."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from fakes import DRAWS, HOOK, LOG, Draw, Other, trainings
from thalweg_study import store
from thalweg_study.account import Account
from thalweg_study.errors import StudyError
from thalweg_study.lab import Lab, TaskError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from thalweg_study.store import Store
    from thalweg_study.task import Record, Task

HOOKED = Draw(1000, hooked=True)


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "log.txt"
    monkeypatch.setenv(LOG, str(path))
    return path


def performed(log: Path) -> list[int]:
    """Seeds in the order in which they were drawn."""
    return [int(line.split()[0]) for line in log.read_text(encoding="utf-8").splitlines()]


@contextmanager
def a_lab(directory: Path, jobs: int = 1) -> Iterator[tuple[Lab, Store, list[tuple[Task, bool]]]]:
    watched: list[tuple[Task, bool]] = []

    def watch(task: Task, *, made: bool) -> None:
        watched.append((task, made))

    with store.opened(directory) as runs, Lab(runs, jobs, watch) as lab:
        yield lab, runs, watched


def without_times(record: Record) -> Any:
    return {name: value for name, value in record.items() if not name.endswith("_seconds")}


def test_records_come_in_the_order_of_the_tasks_and_each_is_made_once(
    tmp_path: Path, log: Path
) -> None:
    tasks: Sequence[Task] = [*DRAWS[5:0:-1], Other(3), *DRAWS[:5], DRAWS[2], Other(3)]
    with a_lab(tmp_path) as (lab, runs, watched):
        records = lab.perform(tasks)
        again = lab.perform(tasks[::-1])
        assert lab.made == len(runs) == 7
    assert records == again[::-1]
    assert records[0] == records[0] | {"threads": 1, "blas": 1, "stopped": None}
    assert len({record["value"] for record in records if "value" in record}) == 6
    assert records[5] == records[-1] == {"seed": -3, "whole": True}
    assert sorted(performed(log)) == [0, 1, 2, 3, 4, 5]
    assert sorted(watched, key=repr) == sorted(((task, True) for task in set(tasks)), key=repr)


def test_what_is_stored_is_not_run_and_nothing_depends_on_jobs(tmp_path: Path, log: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    tasks: Sequence[Task] = [*DRAWS[:20], *trainings()]
    with a_lab(tmp_path / "a", jobs=3) as (lab, _, _):
        records = lab.perform(tasks)
    with a_lab(tmp_path / "a") as (lab, _, watched):
        assert lab.perform(tasks) == records
        assert lab.made == 0
        assert watched == [(task, False) for task in tasks]
    assert len(performed(log)) == 20
    with a_lab(tmp_path / "b", jobs=1) as (lab, _, _):
        alone = lab.perform(tasks[::-1])[::-1]
    assert [*map(without_times, alone)] == [*map(without_times, records)]


def test_a_record_belongs_to_who_asked_for_it(tmp_path: Path) -> None:
    with a_lab(tmp_path) as (lab, _, _):
        lab.perform(DRAWS[:1])[0]["curves"].clear()
        assert lab.perform(DRAWS[:1])[0]["curves"]


def test_long_tasks_come_first(tmp_path: Path, log: Path) -> None:
    costs = [0.1, 3.0, 0.2, 0.1, 1.0]
    with a_lab(tmp_path) as (lab, _, _):
        lab.perform([Draw(seed, cost=cost) for seed, cost in enumerate(costs)])
    assert performed(log) == [1, 4, 2, 0, 3]


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("fail", r"ValueError: there is nothing to draw \(fakes.py, line \d+\)"),
        ("nan", "ValueError: Out of range float values"),
    ],
)
def test_a_task_that_fails_is_named_and_the_finished_ones_are_kept(
    hook: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOOK, hook)
    wanted = rf"the run Draw\(seed=1000, .*\) failed: {message}.*; 4 finished runs are kept in"
    with (
        pytest.raises(StudyError, match=wanted) as caught,
        a_lab(tmp_path) as (lab, _, _),
    ):
        # In one piece with it, and before.
        lab.perform([*DRAWS[:4], HOOKED])
    assert isinstance(caught.value.__cause__, TaskError)
    assert "Traceback" in str(caught.value.__cause__)
    monkeypatch.setenv(HOOK, "")
    with a_lab(tmp_path) as (lab, runs, _):
        assert len(runs) == 4
        assert lab.perform([HOOKED])[0]["extra"] == 0


def test_a_process_that_dies_is_told_and_the_finished_runs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    monkeypatch.setenv(HOOK, "die")
    with a_lab(tmp_path, jobs=2) as (lab, _, _):
        lab.perform(DRAWS[:4])
        with pytest.raises(StudyError, match=r"has died.* 4 finished runs are kept in"):
            lab.perform([HOOKED])
        with pytest.raises(StudyError, match="has died"):
            lab.perform(DRAWS[:6])
    with a_lab(tmp_path) as (lab, _, _):
        lab.perform(DRAWS[:6])
    assert sorted(performed(log)) == [0, 1, 2, 3, 4, 5, 1000]


def test_the_work_that_is_left_is_told_with_stand_ins_and_the_store(tmp_path: Path) -> None:
    short, long = (tuple(Draw(seed, cost=cost) for seed in range(4)) for cost in (1.0, 2.0))
    with store.opened(tmp_path) as runs:
        runs.add([(short[0], "{}")])
        account = Account({"a": short, "b": (*short, *long), "c": long}, runs)
        assert account.total == 3 + 8
        account.begin("a")
        for task in short:
            account.count(task)
        assert account.done == 3
        account.begin("b")
        for seed in range(9):  # not those of the plan, and more of them
            account.count(Draw(seed, "other", cost=2.0))
            assert account.done == min(3 + 2 * (seed + 1), 11)
        account.begin("c")
        account.finish()
        assert account.done == account.total

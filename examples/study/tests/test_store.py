"""Finished runs on disk: found again to the last bit, or known to be damaged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fakes import Draw, Other
from thalweg_study import store
from thalweg_study.errors import StudyError

if TYPE_CHECKING:
    from pathlib import Path

    from thalweg_study.task import Task

TASKS: list[Task] = [Draw(0, "naïve"), Draw(1), Other(1)]
RECORDS = {task: {"value": 0.1 + 0.2, "tiny": 5e-324, "text": "λ", "none": None} for task in TASKS}


def fill(directory: Path, tasks: list[Task] = TASKS) -> Path:
    with store.opened(directory) as runs:
        runs.add((task, json.dumps(RECORDS[task])) for task in tasks)
    return directory / store.NAME


def found(directory: Path) -> list[Task]:
    """The tasks whose records are there, each of which is seen to be the right one."""
    with store.opened(directory) as runs:
        there = [task for task in TASKS if task in runs]
        assert [runs[task] for task in there] == [RECORDS[task] for task in there]
        assert len(runs) == len(there)
    return there


def notices(directory: Path) -> tuple[str, ...]:
    with store.opened(directory) as runs:
        return runs.notices


def test_what_is_added_is_found_again(tmp_path: Path) -> None:
    fill(tmp_path, TASKS[:1])
    assert found(tmp_path) == TASKS[:1]
    fill(tmp_path, TASKS[1:])
    assert found(tmp_path) == TASKS
    assert notices(tmp_path) == ()


def test_every_line_is_json_with_all_that_made_the_run(tmp_path: Path) -> None:
    lines = fill(tmp_path).read_text(encoding="utf-8").splitlines()
    run = json.loads(lines[0])
    assert (run["kind"], run["record"]) == ("draw", RECORDS[TASKS[0]])
    assert run["settings"] == {"seed": 0, "label": "naïve", "hooked": False, "cost": 0.01}
    assert run["environment"] == store.environment()


def test_a_run_is_in_the_file_when_add_returns(tmp_path: Path) -> None:
    with store.opened(tmp_path) as runs:
        runs.add([(TASKS[0], json.dumps(RECORDS[TASKS[0]]))])
        assert runs.path.read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_whatever_byte_is_damaged_no_record_is_wrong(flip: int, tmp_path: Path) -> None:
    path = fill(tmp_path)
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= flip
        path.write_bytes(damaged)
        # A line that has lost its end takes the next one along.
        assert len(found(tmp_path)) >= (1 if whole[position] == ord("\n") else 2)
        assert path.read_bytes() == damaged


def test_a_file_of_one_damaged_run_is_still_a_store(tmp_path: Path) -> None:
    path = fill(tmp_path, TASKS[:1])
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + b"\x00" + whole[position + 1 :])
        assert found(tmp_path) == []


def test_wherever_a_line_is_torn_the_others_stay_and_more_can_follow(tmp_path: Path) -> None:
    first = fill(tmp_path, TASKS[:1]).read_bytes()
    path = fill(tmp_path, TASKS[1:2])
    whole = path.read_bytes()
    for length in range(len(first), len(whole)):
        path.write_bytes(whole[:length])
        # The end of a line is no part of the run.
        assert found(tmp_path) == TASKS[: 2 if length == len(whole) - 1 else 1]
        fill(tmp_path, TASKS[2:])
        assert TASKS[2] in found(tmp_path)
        assert path.read_bytes().startswith(whole[:length])


@pytest.mark.parametrize("length", [12, 40, 200])
def test_a_first_line_that_is_torn_is_no_obstacle(length: int, tmp_path: Path) -> None:
    path = fill(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    assert found(tmp_path) == []
    assert len(notices(tmp_path)) == 1
    fill(tmp_path)
    assert found(tmp_path) == TASKS


def test_damage_is_told_once_with_where_it_is(tmp_path: Path) -> None:
    path = fill(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"\xff\xfe\n" * 2 + lines[0] + b"{}\n" * 5 + b"".join(lines[1:]))
    (notice,) = notices(tmp_path)
    assert repr(str(path)) in notice
    assert "7 damaged lines (number 1, 2, 4, 5, 6, …)" in notice
    assert "the other 3 are kept" in notice
    assert found(tmp_path) == TASKS


def test_runs_of_other_versions_stay_and_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fill(tmp_path, TASKS[:2])
    with monkeypatch.context() as later:
        later.setattr(store, "environment", lambda: {"NumPy": "9.0"})
        assert found(tmp_path) == []
        (notice,) = notices(tmp_path)
        assert "2 runs of other versions than NumPy 9.0" in notice
        fill(tmp_path, TASKS[2:])
        assert found(tmp_path) == TASKS[2:]
    assert found(tmp_path) == TASKS[:2]
    assert len(path.read_bytes().splitlines()) == 3


@pytest.mark.parametrize(
    "content", [b"\x7fELF\x02\x01\x01\x00\n\x00", b"notes\n", b'{"format": 1}', b"\x00" * 99]
)
def test_a_file_that_is_something_else_is_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / store.NAME
    path.write_bytes(content)
    with pytest.raises(StudyError, match="is no file of runs"), store.opened(tmp_path):
        pass
    assert path.read_bytes() == content


def test_a_directory_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / store.NAME).mkdir()
    with pytest.raises(StudyError, match="is no file of runs"), store.opened(tmp_path):
        pass


def test_an_empty_file_is_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / store.NAME).touch()
    assert found(tmp_path) == []
    assert notices(tmp_path) == ()


def test_one_at_a_time(tmp_path: Path) -> None:
    refused = pytest.raises(StudyError, match=r"another study is at work: .* locked by process")
    with store.opened(tmp_path), refused, store.opened(tmp_path):
        pass
    fill(tmp_path)
    assert found(tmp_path) == TASKS

"""Files of sharded optimizers: those of one process, byte for byte, for any number of ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from fleet import Training, assert_same, model
from ranks import results_of, run
from thalweg.tree import flatten

if TYPE_CHECKING:
    from pathlib import Path

    from ranks import Thread

EXTRA = {"epoch": 1, "seen": (2, 3), "order": np.arange(5)}
GROUPS = [{"match": "*.b", "lr_scale": 0.5}, {"match": "double", "state": "full"}]
SCHEDULE = 0.02 * thalweg.schedule.cosine(9)
TRAININGS = {
    "full": Training(thalweg.AdamW, {"lr": SCHEDULE, "groups": GROUPS}),
    "bfloat16": Training(thalweg.AdamW, {"state": "bfloat16", "groups": GROUPS}),
    "compact": Training(thalweg.AdamW, {"state": "compact", "groups": GROUPS}),
    "schedule-free": Training(thalweg.ScheduleFreeAdamW, {"groups": GROUPS}),
    "momentum": Training(thalweg.SGD, {"lr": 0.1, "momentum": 0.9, "groups": GROUPS}),
}
each = pytest.mark.parametrize("training", TRAININGS.values(), ids=TRAININGS)


def average(opt: Any) -> thalweg.EMA:
    return thalweg.EMA(opt, decay=0.9)


@pytest.fixture(name="files")
def _files(tmp_path: Path, training: Training) -> tuple[bytes, bytes]:
    """The files of one process after 3 and after 5 steps."""
    params, opt = training.alone()
    ema = average(opt)
    saved = []
    for start, stop in ((0, 3), (3, 5)):
        training.run(params, opt, start, stop)
        ema.update()
        opt.save(tmp_path / "alone", EXTRA)
        saved.append((tmp_path / "alone").read_bytes())
    return saved[0], saved[1]


@each
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_a_save_has_the_bytes_of_one_process(
    training: Training, ranks: int, tmp_path: Path, files: tuple[bytes, bytes]
) -> None:
    def program(rank: Thread) -> None:
        params, opt = training.of(rank)
        ema = average(opt)
        training.run(params, opt, 0, 3)
        ema.update()
        opt.save(tmp_path / "many", EXTRA)

    results_of(ranks, program)
    assert (tmp_path / "many").read_bytes() == files[0]


@each
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_a_run_goes_on_with_any_number_of_ranks(
    training: Training, ranks: int, tmp_path: Path, files: tuple[bytes, bytes]
) -> None:
    (tmp_path / "before").write_bytes(files[0])

    def program(rank: Thread) -> Any:
        params, opt = training.of(rank)
        ema = average(opt)
        report = opt.load(tmp_path / "before")
        training.run(params, opt, 3, 5)
        ema.update()
        opt.save(tmp_path / "after", EXTRA)
        return report

    for report in results_of(ranks, program):
        assert report.step == 3
        assert_same(report.extra, EXTRA)
    assert (tmp_path / "after").read_bytes() == files[1]


@each
def test_only_the_first_rank_needs_the_file(
    training: Training, tmp_path: Path, files: tuple[bytes, bytes]
) -> None:
    (tmp_path / "here").write_bytes(files[0])

    def program(rank: Thread) -> Any:
        params, opt = training.of(rank)
        average(opt)
        opt.load(tmp_path / ("here" if rank.rank == 0 else "nowhere"))
        opt.save(tmp_path / ("again" if rank.rank == 0 else "no/where"), EXTRA)
        return flatten(params)

    results_of(3, program)
    assert (tmp_path / "again").read_bytes() == files[0]


@each
def test_state_dicts_go_to_and_come_from_rank_0(training: Training) -> None:
    params, alone = training.alone()
    training.run(params, alone, 0, 3)
    expected = alone.state_dict()

    def program(rank: Thread) -> Any:
        _, opt = training.of(rank)
        opt.load_state_dict(expected if rank.rank == 0 else None)
        return opt.state_dict(), opt.step_count

    results = results_of(3, program)
    assert_same(results[0][0], expected)
    assert [state for state, _ in results[1:]] == [None, None]
    assert [count for _, count in results] == [3, 3, 3]


def through_torch(one: Any, other: Any) -> None:
    saved = thalweg.convert.to_torch(one, tensors=False)
    thalweg.convert.from_torch(saved, other, hyperparameters="current")


def through_optax(one: Any, other: Any) -> None:
    thalweg.convert.from_optax(thalweg.convert.to_optax(one), other)


@pytest.mark.parametrize("converted", [through_torch, through_optax])
def test_states_of_other_libraries_go_through_the_state_dict(converted: Any) -> None:
    training = TRAININGS["full"]
    params, alone = training.alone()
    training.run(params, alone, 0, 3)
    expected = alone.state_dict()

    def program(rank: Thread) -> Any:
        _, opt = training.of(rank)
        opt.load_state_dict(expected if rank.rank == 0 else None)
        whole = opt.state_dict()
        found = None
        if rank.rank == 0:
            _, one = training.alone()
            one.load_state_dict(whole)
            _, other = training.alone()
            converted(one, other)
            found = other.state_dict()
        opt.reset()
        opt.load_state_dict(found, hyperparameters="current")
        return opt.state_dict()

    assert_same(results_of(3, program)[0]["state"], expected["state"])


def test_without_parameters_and_without_hyperparameters(tmp_path: Path) -> None:
    training = TRAININGS["full"]
    params, alone = training.alone()
    training.run(params, alone, 0, 2)
    alone.save(tmp_path / "file", params=False)

    def program(rank: Thread) -> Any:
        own, opt = training.of(rank)
        opt.lr = 0.5
        opt.load(tmp_path / "file", hyperparameters="current", params=False)
        opt.save(tmp_path / "again", params=False)
        return opt.lr, flatten(own)

    for lr, own in results_of(3, program):
        assert lr == 0.5
        for name, array in flatten(model(0)).items():
            assert own[name].tobytes() == array.tobytes()


def test_a_file_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    training = TRAININGS["full"]
    thalweg.AdamW({"other": np.ones(3)}).save(tmp_path / "other")
    training.alone()[1].save(tmp_path / "damaged")
    raw = bytearray((tmp_path / "damaged").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "damaged").write_bytes(raw)

    def program(rank: Thread) -> Any:
        params, opt = training.of(rank)
        training.run(params, opt, 0, 1)
        before = {name: array.tobytes() for name, array in flatten(params).items()}
        said = []
        for name in ("other", "damaged", "missing"):
            with pytest.raises((ValueError, OSError)) as raised:
                opt.load(tmp_path / name)
            said.append(str(raised.value))
        with pytest.raises(ValueError, match="in one process"):
            opt.load(tmp_path / "other", convert=True)
        assert before == {name: array.tobytes() for name, array in flatten(params).items()}
        training.run(params, opt, 1, 2)
        return said, opt.state_dict()

    results = results_of(3, program)
    params, alone = training.alone()
    training.run(params, alone, 0, 2)
    assert_same(results[0][1], alone.state_dict())
    assert "'other'" in results[2][0][0]
    assert results[2][0][1].startswith("rank 0: ")
    assert results[2][0][2].startswith("rank 0: ")


def test_a_save_that_fails_on_rank_0_fails_on_all(tmp_path: Path) -> None:
    training = TRAININGS["full"]

    def program(rank: Thread) -> Any:
        params, opt = training.of(rank)
        training.run(params, opt, 0, 1)
        with pytest.raises(OSError, match=r"[nN]o such") as raised:
            opt.save(tmp_path / "no" / "directory")
        with pytest.raises(TypeError, match="extra"):
            opt.save(tmp_path / "file", extra=object())
        opt.save(tmp_path / "file")
        return type(raised.value), str(raised.value)

    results = results_of(3, program)
    assert results[1][1].startswith("rank 0: ")
    assert (tmp_path / "file").exists()


def test_averaged_points_are_those_of_one_process() -> None:
    training = TRAININGS["schedule-free"]
    params, alone = training.alone()
    training.run(params, alone, 0, 3)
    before = {name: array.copy() for name, array in flatten(params).items()}
    with alone.averaged():  # type: ignore[attr-defined]
        expected = {name: array.copy() for name, array in flatten(params).items()}

    def program(rank: Thread) -> Any:
        own, opt = training.of(rank)
        training.run(own, opt, 0, 3)
        with opt.averaged() as tree:
            assert tree is own
            inside = {name: array.copy() for name, array in flatten(own).items()}
            with pytest.raises(thalweg.BusyError):
                opt.step(opt.sums())
        return inside, flatten(own)

    for inside, after in results_of(3, program):
        for name, array in expected.items():
            assert inside[name].tobytes() == array.tobytes(), name
            assert after[name].tobytes() == before[name].tobytes(), name


@pytest.mark.parametrize("lost", range(3))
def test_a_rank_may_be_lost_at_any_point_of_a_save(lost: int, tmp_path: Path) -> None:
    """The file is the old one or the new one, whole."""
    training = TRAININGS["compact"]
    params, alone = training.alone()
    training.run(params, alone, 0, 1)
    alone.save(tmp_path / "old")
    training.run(params, alone, 1, 2)
    alone.save(tmp_path / "new")
    old, new = ((tmp_path / name).read_bytes() for name in ("old", "new"))
    ends = set()
    for point in range(1, 400, 5):
        (tmp_path / "file").write_bytes(old)

        def fault(_: str, number: int, point: int = point) -> None:
            if number == point:
                raise KeyboardInterrupt

        def program(rank: Thread) -> None:
            _, opt = training.of(rank)
            opt.load(tmp_path / "new")
            rank.calls, rank.fault = 0, fault if rank.rank == lost else None
            opt.save(tmp_path / "file")

        results = run(3, program)
        ends.add((tmp_path / "file").read_bytes())
        if results == [None] * 3:
            break
    assert results == [None] * 3
    assert ends == {old, new}

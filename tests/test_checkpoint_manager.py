"""`CheckpointManager`: when it saves, which files it keeps and restores, and its lock."""

from __future__ import annotations

import copy
import errno
import gc
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from conftest import unchanged
from processes import in_fork, needs_fork
from runs import RUNS, Run
from thalweg import AdamW, CheckpointManager
from thalweg.checkpoint import background as background_module
from thalweg.checkpoint.files import Opened, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT = 60


def made(steps: int = 0, size: int = 3) -> AdamW:
    opt = AdamW({"w": np.ones(size)}, lr=0.1)
    return train(opt, steps)


def train(opt: AdamW, steps: int) -> AdamW:
    for _ in range(steps):
        rng = np.random.default_rng(opt.step_count)
        opt.step({"w": rng.standard_normal(opt.params["w"].shape)})
    return opt


def look(opt: thalweg.Optimizer) -> tuple[int, bytes, bytes]:
    return opt.step_count, opt.params["w"].tobytes(), opt.state["w"]["exp_avg"].tobytes()


def names(directory: Path) -> list[str]:
    """Names of the files in a directory, without the lock."""
    return sorted(path.name for path in directory.iterdir() if path.name != ".lock")


def steps(manager: CheckpointManager) -> list[int]:
    return [step for step, _ in manager.checkpoints()]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "checkpoints"


@pytest.fixture(params=[False, True], ids=["foreground", "background"])
def background(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Event that background threads wait for before they write."""
    go = threading.Event()
    write = Snapshot.write

    def wait_and_write(self: Snapshot, path: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            assert go.wait(TIMEOUT)
        write(self, path)

    monkeypatch.setattr(Snapshot, "write", wait_and_write)
    yield go
    go.set()


def test_names_of_files_and_their_number(directory: Path, background: bool) -> None:
    opt = made()
    with CheckpointManager(directory, keep=2, background=background) as manager:
        assert not directory.exists()
        assert manager.checkpoints() == []
        assert manager.latest() is None
        paths = []
        for _ in range(4):
            paths.append(manager.save(train(opt, 5), extra={"at": opt.step_count}))
            manager.wait()
            assert paths[-1].exists()
            assert manager.latest() == paths[-1]
    assert [path.name for path in paths[2:]] == names(directory)
    assert names(directory) == [
        "checkpoint-00000003-step-15.safetensors",
        "checkpoint-00000004-step-20.safetensors",
    ]
    assert manager.checkpoints() == [(15, paths[2]), (20, paths[3])]
    assert thalweg.read_checkpoint(paths[3]).extra == {"at": 20}


def test_no_number_is_reused(directory: Path) -> None:
    with CheckpointManager(directory) as manager:
        manager.save(made())
        manager.save(made()).unlink()
        assert manager.save(made()).name.startswith("checkpoint-00000003")


def test_keep_none_keeps_all(directory: Path) -> None:
    with CheckpointManager(directory, keep=None) as manager:
        for _ in range(5):
            manager.save(made())
    assert len(names(directory)) == 5


def test_an_old_file_is_removed_after_the_new_one_exists(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[list[str]] = []
    unlink = Path.unlink

    def watched(self: Path, missing_ok: bool = False) -> None:
        there.append(names(directory))
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)
    with CheckpointManager(directory, keep=1) as manager:
        manager.save(made())
        manager.save(made())
    assert [len(seen) for seen in there] == [2]


def test_other_files_are_left_alone(directory: Path) -> None:
    directory.mkdir(parents=True)
    ours = "checkpoint-00000007-step-3.safetensors"
    others = [
        "notes.partial",
        "checkpoint-1-step-3.safetensors",
        "checkpoint-final.safetensors",
        f"x{ours}",
        f"{ours}.bak",
        f"{ours}.partial~",
    ]
    for name in others:
        (directory / name).touch()
    (directory / ours).mkdir()
    with CheckpointManager(directory, keep=1) as manager:
        assert manager.restore(made()) is None
        for _ in range(3):
            path = manager.save(made())
    assert path.name == "checkpoint-00000010-step-0.safetensors"
    assert names(directory) == sorted([*others, ours, path.name])


def test_leftovers_of_killed_saves_are_removed_by_the_next_save(
    directory: Path, background: bool
) -> None:
    manager = CheckpointManager(directory, background=background)
    directory.mkdir(parents=True)
    left = directory / "checkpoint-00000009-step-3.safetensors.partial"
    left.write_bytes(b"half")
    assert manager.restore(made()) is None
    assert left.exists()
    with manager:
        path = manager.save(made())
    assert names(directory) == [path.name]
    assert path.name == "checkpoint-00000010-step-0.safetensors"


def test_a_relative_path_is_resolved_at_construction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manager = CheckpointManager("run")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert manager.save(made()).parent == tmp_path / "run"
    manager.close()


def test_after_loading_an_earlier_step_the_latest_is_the_last_saved(directory: Path) -> None:
    opt = made()
    with CheckpointManager(directory, keep=3) as manager:
        for _ in range(3):
            path = manager.save(train(opt, 10))
        opt.load(manager.checkpoints()[0][1])
        manager.save(train(opt, 1))
        path = manager.save(train(opt, 1))
    assert steps(manager) == [30, 11, 12]
    assert manager.latest() == path
    again = made()
    assert CheckpointManager(directory).restore(again) == thalweg.LoadReport(step=12)
    assert look(again) == look(opt)


def test_when_a_save_is_due(directory: Path, background: bool) -> None:
    opt, saved = made(), []

    def extra() -> Any:
        saved.append(opt.step_count)
        return {"calls": len(saved)}

    with CheckpointManager(directory, keep=None, every=4, background=background) as manager:
        for _ in range(9):
            path = manager.save_if_due(train(opt, 1), extra)
            assert (path is not None) == (opt.step_count % 4 == 0)
        manager.save(opt)  # at 9
        for _ in range(5):
            manager.save_if_due(train(opt, 1), extra)
        assert saved == [4, 8, 13]
        manager.restore(opt)
        for _ in range(5):
            manager.save_if_due(train(opt, 1), extra)
        assert saved == [4, 8, 13, 17]
        opt.load(manager.checkpoints()[0][1])  # the count goes back to 4
        for _ in range(5):
            manager.save_if_due(train(opt, 1), extra)
        assert saved == [4, 8, 13, 17, 9]  # counted from 5, the first step after the load
    assert thalweg.read_checkpoint(manager.checkpoints()[-1][1]).extra == {"calls": 5}


def test_the_first_save_is_counted_from_zero_or_from_the_restored_step(directory: Path) -> None:
    with CheckpointManager(directory, every=4) as manager:
        assert manager.save_if_due(made(3)) is None
        assert manager.save_if_due(made(6)) is not None
    opt = made()
    with CheckpointManager(directory, every=4) as manager:
        manager.restore(opt)
        assert manager.save_if_due(train(opt, 3)) is None
        assert manager.save_if_due(train(opt, 1)) is not None
    with CheckpointManager(directory, every=4) as manager:
        assert manager.save_if_due(opt) is not None


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 4
    path.write_bytes(raw)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "flipped bit": (flip, "checksum"),
    "truncated": (truncate, "damaged"),
    "header alone": (lambda path: path.write_bytes(path.read_bytes()[:60]), "damaged"),
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "other": (lambda path: path.write_bytes(b"PK" * 100), "not a checkpoint of thalweg"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_warned_about_and_skipped(kind: str, directory: Path) -> None:
    damage, reason = DAMAGE[kind]
    opt = made()
    with CheckpointManager(directory) as manager:
        manager.save(train(opt, 1))
        kept = look(opt)
        newest = manager.save(train(opt, 1))
    damage(newest)
    again = made()
    with pytest.warns(RuntimeWarning, match=f"{newest.name}' .*{reason}") as warned:
        report = manager.restore(again)
    assert [warning.filename for warning in warned] == [__file__]
    assert report == thalweg.LoadReport(step=1)
    assert look(again) == kept
    with pytest.warns(RuntimeWarning, match=newest.name) as warned:
        assert manager.latest() == manager.checkpoints()[0][1]
    assert [warning.filename for warning in warned] == [__file__]
    assert newest.exists()
    with manager:
        path = manager.save(again)
    assert manager.latest() == path


def test_an_error_lists_the_files_if_all_are_damaged(directory: Path) -> None:
    with CheckpointManager(directory) as manager:
        paths = [manager.save(made()) for _ in range(2)]
    flip(paths[0])
    paths[1].write_bytes(b"")
    opt = made(1)
    for read in (lambda: manager.restore(opt), manager.latest):
        with (
            unchanged(opt),
            pytest.warns(RuntimeWarning) as warned,
            pytest.raises(ValueError, match="is intact") as refused,
        ):
            read()
        lines = str(refused.value).splitlines()
        assert lines[0] == f"no checkpoint in {str(directory)!r} is intact:"
        assert lines[1] == f"- '{paths[1]}' is damaged: it is empty"
        assert f"- '{paths[0]}' is damaged: its checksum must be" in lines[2]
        assert len(warned) == 2


def test_eio_counts_as_damage_and_eacces_does_not(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CheckpointManager(directory) as manager:
        manager.save(made(1))
        newest = manager.save(made(2))

    def fail_with(number: int) -> None:
        class Failing(Opened):
            def __init__(self, path: Any) -> None:
                if path == newest:
                    raise OSError(number, os.strerror(number), path)
                super().__init__(path)

        monkeypatch.setattr("thalweg.checkpoint.files.Opened", Failing)

    fail_with(errno.EACCES)
    opt = made()
    with unchanged(opt), pytest.raises(PermissionError):
        manager.restore(opt)
    fail_with(errno.EIO)
    with pytest.warns(RuntimeWarning, match=newest.name):
        assert manager.restore(opt) == thalweg.LoadReport(step=1)


def test_a_file_that_does_not_fit_is_an_error_and_not_skipped(directory: Path) -> None:
    with CheckpointManager(directory) as manager:
        manager.save(made())
        manager.save(AdamW({"w": np.ones(5)}, lr=0.1))
    opt = made(1)
    with unchanged(opt), pytest.raises(ValueError, match="does not fit"):
        manager.restore(opt)
    report = manager.restore(opt, strict=False)
    assert report is not None
    assert report.mismatched
    with manager:
        manager.save(opt, params=False)
    with unchanged(opt), pytest.raises(ValueError, match="contains no parameters"):
        manager.restore(opt)
    assert manager.restore(opt, params=False) is not None


def test_restore_takes_saved_or_current_hyperparameters(directory: Path) -> None:
    with CheckpointManager(directory) as manager:
        manager.save(AdamW({"w": np.ones(3)}, lr=0.5))
    opt = made()
    with pytest.warns(UserWarning, match="loading changes hyperparameters") as warned:
        manager.restore(opt)
    assert [warning.filename for warning in warned] == [__file__]
    assert opt.lr == 0.5
    opt.lr = 0.1
    assert manager.restore(opt, hyperparameters="current") == thalweg.LoadReport(step=0)


def test_restore_copes_with_a_file_removed_after_listing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CheckpointManager(directory, keep=1) as manager:
        manager.save(made(1))
        listed = CheckpointManager.checkpoints

        def then_pruned(self: CheckpointManager) -> list[tuple[int, Path]]:
            found = listed(self)
            monkeypatch.undo()
            manager.save(made(2))
            return found

        monkeypatch.setattr(CheckpointManager, "checkpoints", then_pruned)
        assert CheckpointManager(directory).restore(opt := made()) is not None
    assert opt.step_count == 2


def test_wrong_use_is_refused(directory: Path) -> None:
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="keep must be a whole number"):
            CheckpointManager(directory, keep=wrong)
        with pytest.raises(ValueError, match="every must be a whole number"):
            CheckpointManager(directory, every=wrong)
    with pytest.raises(TypeError, match="keep must be a whole number"):
        CheckpointManager(directory, keep=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="background must be True or False"):
        CheckpointManager(directory, background=1)  # type: ignore[arg-type]
    manager = CheckpointManager(directory)
    with pytest.raises(ValueError, match=r"save_if_due needs an interval.*every=100"):
        manager.save_if_due(made())
    for call in (manager.save, manager.restore):
        with pytest.raises(TypeError, match=r"opt must be an optimizer .*, got dict"):
            call({})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"extra\['f'\]"):
        manager.save(made(), extra={"f": print})
    assert not directory.exists()
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copied(manager)


def test_one_manager_at_a_time_writes(directory: Path) -> None:
    link = directory.parent / "link"
    link.parent.mkdir()
    link.symlink_to(directory, target_is_directory=True)
    one, other = CheckpointManager(directory), CheckpointManager(link)
    one.save(made(1))
    with pytest.raises(thalweg.BusyError, match=f"locked by process {os.getpid()};"):
        other.save(made(2))
    assert steps(other) == [1]
    assert other.restore(made()) is not None
    assert other.latest() is not None
    one.close()
    other.save(made(2))
    with pytest.raises(thalweg.BusyError):
        one.save(made(3))
    del other
    one.save(made(3))
    assert steps(one) == [1, 2, 3]
    one.close()


HOLDER = """
import sys, numpy as np, thalweg
manager = thalweg.CheckpointManager(sys.argv[1])
manager.save(thalweg.AdamW({"w": np.ones(3)}, lr=0.1))
print("held", flush=True)
sys.stdin.read()
"""


def test_another_process_is_refused_until_the_first_has_died(directory: Path) -> None:
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", HOLDER, directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with CheckpointManager(directory) as manager:
            for _ in range(2):  # a refusal does not release the lock
                with pytest.raises(thalweg.BusyError, match=f"locked by process {holder.pid};"):
                    manager.save(made())
            assert manager.restore(made()) is not None
            holder.kill()
            holder.wait(TIMEOUT)
            manager.save(made(1))
    assert steps(manager) == [0, 1]
    assert (directory / ".lock").read_text() == f"{os.getpid()}\n"


@needs_fork
def test_a_forked_child_neither_has_nor_releases_the_lock(directory: Path) -> None:
    manager = CheckpointManager(directory)
    manager.save(made(1))

    def save_in_child() -> str:
        for mine in (CheckpointManager(directory), manager):
            with pytest.raises(thalweg.BusyError, match=f"by process {os.getppid()};"):
                mine.save(made(2))
        assert manager.restore(made()) is not None
        manager.close()
        return "refused twice"

    assert in_fork(save_in_child) == "refused twice"
    assert refused(directory)
    assert in_fork(save_in_child) == "refused twice"
    manager.close()

    def save_and_drop() -> str:
        """Collection of an inherited manager does not release the lock of the child."""
        nonlocal manager
        with CheckpointManager(directory) as mine:
            mine.save(made(2))
            del manager
            gc.collect()
            return in_fork(lambda: "refused" if refused(directory) else "saved")

    assert in_fork(save_and_drop) == "refused"


def refused(directory: Path) -> bool:
    try:
        CheckpointManager(directory).save(made())
    except thalweg.BusyError:
        return True
    return False


@needs_fork
def test_a_forked_child_does_not_wait_for_the_parents_thread(
    directory: Path, held: threading.Event
) -> None:
    with CheckpointManager(directory, background=True) as manager:
        manager.save(made(1))

        def wait_in_child() -> str:
            manager.wait()
            manager.close()
            return "did not wait"

        assert in_fork(wait_in_child) == "did not wait"
        held.set()
    assert steps(manager) == [1]


@needs_fork
def test_a_replaced_directory_is_locked_again(directory: Path) -> None:
    manager = CheckpointManager(directory)
    manager.save(made(1))
    directory.rename(directory.parent / "moved")
    with pytest.raises(FileNotFoundError):
        manager.save(made(2))
    assert not directory.exists()
    directory.mkdir()
    manager.save(made(3))
    assert in_fork(lambda: f"refused: {refused(directory)}") == "refused: True"
    directory.rename(directory.parent / "moved too")
    directory.mkdir()
    (directory / ".lock").touch()  # as by another manager that has finished already
    manager.save(made(4))
    assert in_fork(lambda: f"refused: {refused(directory)}") == "refused: True"
    manager.close()
    assert steps(manager) == [4]


@needs_fork
def test_a_renamed_directory_stays_locked(directory: Path) -> None:
    one = CheckpointManager(directory)
    one.save(made(1))
    moved = directory.rename(directory.parent / "moved")
    with pytest.raises(thalweg.BusyError, match=f"locked by process {os.getpid()};"):
        CheckpointManager(moved).save(made(2))
    assert in_fork(lambda: f"refused: {refused(moved)}") == "refused: True"
    one.close()
    CheckpointManager(moved).save(made(3))


@needs_fork
def test_a_copied_directory_is_locked_again_by_the_next_save(directory: Path) -> None:
    """POSIX drops a process's locks on a file when the process closes any descriptor of it."""
    with CheckpointManager(directory) as manager:
        manager.save(made(1))
        shutil.copytree(directory, directory.parent / "copy")
        manager.save(made(2))
        assert in_fork(lambda: f"refused: {refused(directory)}") == "refused: True"


def test_a_background_save_writes_the_state_at_its_call(
    directory: Path, held: threading.Event
) -> None:
    opt = made(3)
    rows = np.arange(4)
    with CheckpointManager(directory, background=True) as manager:
        path = manager.save(opt, extra={"rows": rows})
        saved = look(opt)
        train(opt, 4)
        rows[:] = 0
        assert manager.checkpoints() == []
        held.set()
    again = made()
    report = manager.restore(again)
    assert manager.latest() == path
    assert look(again) == saved
    assert report is not None
    assert report.extra["rows"].tolist() == [0, 1, 2, 3]


def test_one_write_at_a_time(directory: Path, held: threading.Event) -> None:
    with CheckpointManager(directory, every=1, background=True) as manager:
        manager.save(made(1))
        assert manager.save_if_due(made(1)) is None  # returns without waiting
        later = threading.Timer(0.05, held.set)
        later.start()
        manager.save(made(2))
        assert held.is_set()
        assert 1 in steps(manager)
        later.join()
    assert steps(manager) == [1, 2]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Function that fills the disk: each later write fails and leaves no file."""
    write = Snapshot.write

    def fill(self: Snapshot, path: Any) -> None:
        write(self, path)
        Path(path).unlink()
        raise OSError(28, "No space left on device", path)

    return lambda: monkeypatch.setattr(Snapshot, "write", fill)


ASKED: dict[str, Callable[[CheckpointManager, AdamW], Any]] = {
    "save": lambda manager, opt: manager.save(opt),
    "save_if_due": lambda manager, opt: manager.save_if_due(opt),
    "restore": lambda manager, opt: manager.restore(opt),
    "wait": lambda manager, _: manager.wait(),
    "close": lambda manager, _: manager.close(),
    "exit": lambda manager, _: manager.__exit__(None, None, None),
}


@pytest.mark.parametrize("call", ASKED)
def test_an_error_in_the_background_is_raised_by_the_next_call(
    call: str, directory: Path, monkeypatch: pytest.MonkeyPatch, full: Callable[[], None]
) -> None:
    opt = made()
    manager = CheckpointManager(directory, keep=1, every=5, background=True)
    manager.save(opt)
    manager.wait()
    full()
    assert manager.save_if_due(train(opt, 5)) is not None
    assert manager._task is not None
    manager._task.failed()
    with unchanged(opt), pytest.raises(OSError, match="No space left") as raised:
        ASKED[call](manager, opt)
    assert any("fill" in str(entry) for entry in raised.traceback)
    assert steps(manager) == [0]
    monkeypatch.undo()
    manager.wait()
    assert manager.save_if_due(opt) is not None  # a failed save does not count
    manager.close()
    assert steps(manager) == [5]


def test_a_failed_save_keeps_the_existing_files(
    directory: Path, monkeypatch: pytest.MonkeyPatch, full: Callable[[], None]
) -> None:
    opt = made()
    with CheckpointManager(directory, keep=1, every=5) as manager:
        manager.save(opt)
        full()
        with pytest.raises(OSError, match="No space left"):
            manager.save_if_due(train(opt, 5))
        assert steps(manager) == [0]
        monkeypatch.undo()
        assert manager.save_if_due(opt) is not None
    assert steps(manager) == [5]


def test_names_in_use_are_skipped_and_a_path_below_a_file_is_refused(
    directory: Path, background: bool
) -> None:
    directory.mkdir(parents=True)
    (directory / "checkpoint-00000001-step-1.safetensors").write_bytes(b"")
    (directory / "checkpoint-00000002-step-2.safetensors.partial").mkdir()
    manager = CheckpointManager(directory, background=background)
    path = manager.save(made(2))
    assert path.name.startswith("checkpoint-00000003")  # skips a name that is in use
    manager.wait()
    (directory / "checkpoint-00000004-step-2.safetensors.partial").symlink_to(directory)
    manager.close()
    with pytest.raises(NotADirectoryError):
        CheckpointManager(path / "checkpoints", background=background).save(made())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_that_no_call_raises_reaches_the_excepthook(
    directory: Path, monkeypatch: pytest.MonkeyPatch, full: Callable[[], None]
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    full()
    manager = CheckpointManager(directory, background=True)
    path = manager.save(made(1))
    assert manager._task is not None
    manager._task._thread.join()

    def tell_in_child() -> str:
        told.clear()
        background_module._tell_all()
        return f"{len(told)} errors, which are the parent's"

    if hasattr(os, "fork"):
        assert in_fork(tell_in_child) == "0 errors, which are the parent's"
    del manager  # collection alone reports the error, at once
    assert [(args.exc_type, args.thread.name) for args in told] == [(OSError, path.name)]

    def save_and_raise() -> None:
        with CheckpointManager(directory, background=True) as manager:
            manager.save(made(1))
            raise KeyError("the block's")

    with pytest.raises(KeyError, match="the block's"):
        save_and_raise()
    assert len(told) == 2
    background_module._tell_all()
    assert len(told) == 2


def test_a_collected_manager_finishes_and_unlocks(directory: Path, held: threading.Event) -> None:
    manager = CheckpointManager(directory, background=True)
    manager.save(made(1))
    task = manager._task
    del manager
    gc.collect()
    assert refused(directory)
    held.set()
    assert task is not None
    assert not task.failed()
    task._thread.join()
    del task
    with CheckpointManager(directory) as other:
        other.save(made(2))
    assert steps(other) == [1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals on Windows")
def test_an_interrupt_ends_the_wait_and_not_the_write(
    directory: Path, held: threading.Event
) -> None:
    opt = made(1)
    manager = CheckpointManager(directory, background=True)
    manager.save(opt)
    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for waits in (manager.wait, manager.close, lambda: manager.save(opt)):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                waits()
            assert refused(directory)
    finally:
        signal.signal(signal.SIGALRM, handler)
    held.set()
    manager.close()
    assert steps(manager) == [1]
    assert not refused(directory)


PROGRAM = """
import ctypes, sys, threading, numpy as np, thalweg
from thalweg.checkpoint.files import Opened, Snapshot
write = Snapshot.write
def late(self, path):
    threading.main_thread().join()  # until the program is at its end
    {}
Snapshot.write = late
manager = thalweg.CheckpointManager(sys.argv[1], background=True)
ctypes.pythonapi.Py_IncRef(ctypes.py_object(manager))  # never collected
manager.save(thalweg.AdamW({{"w": np.ones(300_000)}}))
"""


@pytest.mark.parametrize("fails", [False, True])
def test_the_interpreter_finishes_a_write_at_exit_and_reports_its_error(
    fails: bool, directory: Path
) -> None:
    program = PROGRAM.format("raise OSError('no more')" if fails else "write(self, path)")
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program, directory],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert ended.returncode == 0
    manager = CheckpointManager(directory)
    if fails:
        assert "checkpoint-00000001-step-0.safetensors" in ended.stderr
        assert ended.stderr.splitlines()[-1] == "OSError: no more"
        assert manager.checkpoints() == []
    else:
        assert ended.stderr == ""
        assert manager.latest() is not None


def test_threads_that_share_a_manager_take_turns(directory: Path, background: bool) -> None:
    with CheckpointManager(directory, keep=None, background=background) as manager:
        threads = [threading.Thread(target=manager.save, args=(made(n),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(steps(manager)) == list(range(8))


def test_a_failed_removal_is_warned_about(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with CheckpointManager(directory, keep=1) as manager:
        old = manager.save(made())

        def kept(self: Path, **_: Any) -> None:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "unlink", kept)
        with pytest.warns(RuntimeWarning, match=f"Permission denied: .*{old.name}"):
            new = manager.save(made(1))
        monkeypatch.undo()
        assert manager.latest() == new
        manager.save(made(2))
        assert steps(manager) == [2]


@pytest.mark.parametrize("name", ["adamw", "momentum"])
def test_a_run_that_is_resumed_several_times_ends_with_the_same_bits(
    name: str, directory: Path, background: bool
) -> None:
    assert name in RUNS
    straight = Run(name, size=100)
    straight.advance(48)
    resumed = 0
    for allowed in (11, 0, 15, 9, 48):  # micro-steps before each interruption
        run = Run(name, size=100)
        with CheckpointManager(directory, keep=2, every=3, background=background) as manager:
            report = manager.restore(run.opt)
            at = 0
            if report is not None:
                resumed += 1
                at = report.extra["at"]
                run.rng.bit_generator.state = report.extra["rng"]
            for done in range(at, min(at + allowed, 48)):
                run.advance(1)
                extra = {"at": done + 1, "rng": run.rng.bit_generator.state}
                manager.save_if_due(run.opt, lambda extra=extra: extra)
    assert resumed == 4
    assert run.fingerprint() == straight.fingerprint()


def test_repr(directory: Path) -> None:
    text = f"CheckpointManager({str(directory)!r}, keep=None, every=5, background=True)"
    assert repr(CheckpointManager(directory, None, 5, background=True)) == text


def test_ordinary_use_gives_no_warning(directory: Path) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with CheckpointManager(directory, background=True) as manager:
            manager.save(made())
            manager.restore(made())
        del manager
        gc.collect()
    assert warned == []

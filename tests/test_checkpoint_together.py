"""Saving and loading beside other threads, other processes, Ctrl-C and forks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import crash
import thalweg
from conftest import snapshot
from crash import LARGE, filled, value_of
from processes import in_fork, needs_fork
from thalweg import AdamW, BusyError, read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


SAVER = """
import sys
from thalweg import BusyError
from crash import filled
opt, saved, busy = filled(float(sys.argv[2])), 0, 0
print("ready", flush=True)
sys.stdin.read(1)
while saved < 30:
    try:
        opt.save(sys.argv[1])
        saved += 1
    except BusyError as error:
        assert "is locked by" in str(error)
        busy += 1
print(saved, busy)
"""


def test_two_processes_save_to_one_path(path: Path) -> None:
    filled(3.0).save(path)
    savers = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", SAVER, path, value],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
        )
        for value in ("1", "2")
    ]
    for saver in savers:
        assert saver.stdout
        assert saver.stdout.readline() == "ready\n"
    for saver in savers:
        assert saver.stdin
        saver.stdin.write("g")
        saver.stdin.close()
    seen = {value_of(path)}
    while any(saver.poll() is None for saver in savers):
        seen.add(value_of(path))
    counts = []
    for saver in savers:
        assert saver.stdout
        with saver.stdout:
            counts.append([int(word) for word in saver.stdout.read().split()])
    assert [saver.returncode for saver in savers] == [0, 0]
    assert seen <= {1.0, 2.0, 3.0}
    assert len(seen) > 1
    assert [saved for saved, _ in counts] == [30, 30]
    assert sum(busy for _, busy in counts) > 0
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_two_threads_save_to_one_path(path: Path) -> None:
    opts = [filled(1.0), filled(2.0)]
    outcomes: list[str] = []
    start = threading.Barrier(2)

    def save(opt: AdamW) -> None:
        start.wait()
        for _ in range(20):
            try:
                opt.save(path)
                outcomes.append("saved")
            except BusyError as error:  # noqa: PERF203 - each save may be refused
                assert f"is locked by process {os.getpid()}" in str(error)  # noqa: PT017
                outcomes.append("busy")

    threads = [threading.Thread(target=save, args=(opt,)) for opt in opts]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            assert value_of(path) in (1.0, 2.0)
    assert len(outcomes) == 40
    assert set(outcomes) == {"saved", "busy"}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@contextlib.contextmanager
def saving(opt: thalweg.Optimizer, path: Path) -> Iterator[None]:
    """Save in another thread; the block runs once it has begun to write."""
    partial = path.with_name(f"{path.name}.partial")
    failed: list[BaseException] = []

    def save() -> None:
        try:
            opt.save(path)
        except BaseException as error:  # noqa: BLE001 - reported below
            failed.append(error)

    thread = threading.Thread(target=save)
    thread.start()
    with contextlib.suppress(FileNotFoundError):
        while thread.is_alive() and not (partial.exists() and partial.stat().st_size):
            time.sleep(0)
    try:
        yield
    finally:
        thread.join()
    assert not failed


def test_a_step_while_another_thread_saves_is_refused(path: Path) -> None:
    opt = filled(1.0, LARGE)
    refusals = 0
    for number in range(3):
        with saving(opt, path):
            for use in (lambda: crash.stepped(opt), lambda: opt.load(path), lambda: opt.save(path)):
                with contextlib.suppress(thalweg.BusyError, FileNotFoundError):
                    use()
                    continue
                refusals += 1
        # In any order of events, the file holds one state.
        found = read_checkpoint(path)
        assert found.params
        leaf = found.state_dict["state"]["w"]
        assert found.state_dict["step_count"] == leaf["step"]
        arrays = found.params["w"], leaf["exp_avg"], leaf["exp_avg_sq"]
        assert [np.unique(array).size for array in arrays] == [1, 1, 1]
        assert number < 3
    assert refusals > 0
    crash.stepped(opt)


class Alarm(BaseException):
    """Raised by the signal handler, as KeyboardInterrupt is by Ctrl-C."""


@contextlib.contextmanager
def alarm(after: float) -> Iterator[None]:
    """Send a signal `after` seconds later; its handler raises only inside the block."""
    armed = True

    def handler(*_: Any) -> None:
        if armed:
            raise Alarm

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, after)
        yield
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def times(call: Callable[[], Any], count: int) -> Iterator[float]:
    """Delays spread over the duration of a call, most of them short."""
    begin = time.perf_counter()
    call()
    took = time.perf_counter() - begin
    for i in range(count):
        yield took * ((i + 0.5) / count) ** 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no timers that signal")
def test_an_exception_of_a_signal_handler_ends_a_save(path: Path) -> None:
    opt, other = filled(1.0, LARGE), filled(2.0, LARGE)
    opt.save(path)
    raised = 0
    for after in times(lambda: opt.save(path), 12):
        before = snapshot(other)
        try:
            with alarm(after):
                other.save(path)
            expected = 2.0
        except Alarm:
            expected = value_of(path)  # a signal at the very end may come after the save
            assert expected in (1.0, 2.0)
            raised += expected == 1.0
        assert snapshot(other) == before
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        assert value_of(path) == expected
        opt.save(path)
    assert raised > 0
    crash.stepped(other)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no timers that signal")
def test_an_exception_of_a_signal_handler_ends_a_load(path: Path) -> None:
    filled(2.0, LARGE).save(path)
    opt = filled(1.0, LARGE)
    before = snapshot(opt)
    raised = 0
    for after in times(lambda: read_checkpoint(path), 12):
        try:
            with alarm(after):
                opt.load(path)
        except Alarm:
            raised += 1
        now = snapshot(opt)
        # Nothing or everything was loaded.
        if now != before:
            w = opt.params["w"], opt.state["w"]["exp_avg"], opt.state["w"]["exp_avg_sq"]
            assert all((array == 2.0).all() for array in w)
            opt = filled(1.0, LARGE)
            before = snapshot(opt)
    assert raised > 0
    crash.stepped(opt)


INTERRUPTED = """
import signal, sys
from crash import LARGE, filled
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
opt = filled(2.0, LARGE)
print("ready", flush=True)
try:
    while True:
        opt.save(sys.argv[1])
except KeyboardInterrupt:
    print("interrupted", flush=True)
opt.step({"w": opt.params["w"].copy()})
opt.save(sys.argv[1] + "-2")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to all")
def test_ctrl_c_during_a_save(path: Path) -> None:
    filled(1.0, LARGE).save(path)
    child = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", INTERRUPTED, path],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
    with child:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        partial = path.with_name(f"{path.name}.partial")
        with contextlib.suppress(FileNotFoundError):
            while not partial.exists() or partial.stat().st_size < 1 << 20:
                time.sleep(0)
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == "interrupted\n"
    assert child.returncode == 0
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}-2"}
    assert value_of(path) in (1.0, 2.0)
    assert read_checkpoint(f"{path}-2").state_dict["step_count"] == 2


@needs_fork
def test_a_fork_while_another_thread_saves(path: Path, tmp_path: Path) -> None:
    opt = filled(1.0, LARGE)
    elsewhere = tmp_path / "child.safetensors"
    told = []
    for _ in range(3):
        elsewhere.unlink(missing_ok=True)

        def work() -> str:
            said = []
            try:
                opt.save(path)
                said.append("saved")
            except BusyError as error:
                assert "is locked by" in str(error)  # noqa: PT017
                said.append("busy")
            crash.stepped(opt)
            opt.save(elsewhere)
            opt.load(elsewhere)
            return " ".join([*said, str(opt.step_count)])

        with saving(opt, path):
            told.append(in_fork(work))
        assert value_of(path) == 1.0
        assert read_checkpoint(elsewhere).state_dict["step_count"] == 2
    assert {*told} <= {"busy 2", "saved 2"}
    assert "busy 2" in told
    opt.save(path)
    assert {file.name for file in tmp_path.iterdir()} == {path.name, elsewhere.name}

"""Number of threads and CPU level, forked children, and one thread at a time in an optimizer."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import thalweg

LARGE = 300_000
TIMEOUT = 30
CALLS = 200


def test_the_number_of_threads_can_be_set() -> None:
    for n in (1, 3, np.int64(2)):
        thalweg.set_num_threads(n)
        assert thalweg.get_num_threads() == n


@pytest.mark.parametrize(
    ("n", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (2**70, ValueError),
        (1.5, TypeError),
        ("2", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_set_num_threads_needs_a_whole_number(n: Any, error: type[Exception]) -> None:
    before = thalweg.get_num_threads()
    with pytest.raises(error, match=r"number of threads|'n'"):
        thalweg.set_num_threads(n)
    assert thalweg.get_num_threads() == before


def test_the_cpu_level_can_be_set_to_a_known_one() -> None:
    for level in thalweg.cpu_levels():
        thalweg.set_cpu_level(level)
        assert thalweg.get_cpu_level() == level
    with pytest.raises(ValueError, match=r"baseline .*, got 'mmx'"):
        thalweg.set_cpu_level("mmx")
    assert thalweg.get_cpu_level() == level


SETTINGS = ("THALWEG_NUM_THREADS", "OMP_NUM_THREADS", "THALWEG_CPU_LEVEL")


def in_environment(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    program = "import thalweg; print(thalweg.get_num_threads(), thalweg.get_cpu_level())"
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", program],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )


MACHINE = str(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"THALWEG_NUM_THREADS": "3"}, "3"),
        ({"THALWEG_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, "3"),
        ({"OMP_NUM_THREADS": "5"}, "5"),
        ({"OMP_NUM_THREADS": "5,2"}, "5"),
        ({"THALWEG_NUM_THREADS": "", "OMP_NUM_THREADS": "5"}, "5"),
        ({"OMP_NUM_THREADS": "dynamic"}, None),  # left to OpenMP to report
        ({"THALWEG_CPU_LEVEL": ""}, None),
        ({}, None),
    ],
)
def test_threads_come_from_the_environment(variables: dict[str, str], threads: str | None) -> None:
    ended = in_environment(**variables)
    assert (ended.returncode, ended.stderr) == (0, "")
    told, level = ended.stdout.split()
    assert level == thalweg.cpu_levels()[0]
    if threads is None:
        assert 1 <= int(told) <= int(MACHINE or told)  # a cgroup may allow less
    else:
        assert told == threads


def test_the_cpu_level_comes_from_the_environment() -> None:
    for level in thalweg.cpu_levels():
        assert in_environment(THALWEG_CPU_LEVEL=level).stdout.split()[1] == level


@pytest.mark.parametrize(
    ("variable", "value", "advice"),
    [
        ("THALWEG_NUM_THREADS", "0", "from 1 to"),
        ("THALWEG_NUM_THREADS", "-2", "from 1 to"),
        ("THALWEG_NUM_THREADS", "many", "from 1 to"),
        ("THALWEG_CPU_LEVEL", "mmx", "baseline"),
    ],
)
def test_a_wrong_environment_variable_is_an_error_at_import(
    variable: str, value: str, advice: str
) -> None:
    ended = in_environment(**{variable: value})
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("ValueError: ")
    for part in (variable, f"'{value}'", advice):
        assert part in last


def trained(steps: int = 2) -> np.ndarray:
    """Parameters after steps that are large enough for several threads."""
    params = np.ones(LARGE, np.float32)
    opt = thalweg.AdamW(params)
    for step in range(steps):
        opt.step(np.random.default_rng(step).normal(size=LARGE), max_norm=1.0)
    return params


def send_trained(sender: Any) -> None:
    sender.send_bytes(trained().tobytes())


needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the platform cannot fork"
)


def in_child(work: Any, *arguments: Any) -> bytes:
    """The bytes that `work` sends from a forked child; fails if the child does not exit."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=work, args=(sender, *arguments))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point
        child.start()
    try:
        assert receiver.poll(TIMEOUT), "the child hangs"
        sent: bytes = receiver.recv_bytes()
        child.join(TIMEOUT)
        assert child.exitcode == 0
        return sent
    finally:
        child.kill()
        child.join()


@needs_fork
def test_a_forked_child_steps_with_its_own_threads() -> None:
    thalweg.set_num_threads(4)
    expected = trained().tobytes()
    assert in_child(send_trained) == expected
    assert trained().tobytes() == expected


def send_step_count(sender: Any, opt: thalweg.Optimizer) -> None:
    opt.lr = 0.5
    opt.step(np.ones(LARGE))
    sender.send_bytes(str(opt.step_count).encode())


@needs_fork
def test_a_child_forked_during_a_step_can_step() -> None:
    inside, proceed = threading.Event(), threading.Event()
    opt = thalweg.SGD(np.ones(LARGE), lr=lambda _: waiting(inside, proceed))
    with ThreadPoolExecutor(1) as threads:
        stepping = threads.submit(opt.step, np.ones(LARGE))
        try:
            assert inside.wait(TIMEOUT)
            assert in_child(send_step_count, opt) == b"1"
        finally:
            proceed.set()
        assert stepping.result(TIMEOUT).step == 1


def waiting(inside: threading.Event, proceed: threading.Event) -> float:
    """Act as a schedule that stays inside its step until it is told to proceed."""
    inside.set()
    assert proceed.wait(TIMEOUT)
    return 0.5


def test_two_threads_cannot_step_one_optimizer() -> None:
    inside, proceed = threading.Event(), threading.Event()
    params = np.ones(LARGE)
    opt = thalweg.SGD(params, lr=lambda _: waiting(inside, proceed))
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(opt.step, np.ones(LARGE))
        try:
            assert inside.wait(TIMEOUT)
            for intrusion in (
                lambda: opt.step(np.ones(LARGE)),
                opt.reset,
                lambda: setattr(opt, "lr", 1.0),
                lambda: opt.rebind(params),
                lambda: opt.load_state_dict(thalweg.SGD(params.copy(), lr=0.5).state_dict()),
            ):
                with pytest.raises(thalweg.BusyError, match="already in use"):
                    intrusion()
            assert opt.step_count == 0
        finally:
            proceed.set()
        assert first.result(TIMEOUT).step == 1
    assert (params == 0.5).all()
    assert callable(opt.lr)
    assert opt.step(np.ones(LARGE)).step == 2


def test_optimizers_step_side_by_side() -> None:
    expected = trained()
    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(trained) for _ in range(4)]
        assert all(np.array_equal(run.result(TIMEOUT), expected) for run in runs)


def test_the_number_of_threads_may_change_between_steps() -> None:
    expected = trained(6)
    params = np.ones(LARGE, np.float32)
    opt = thalweg.AdamW(params)
    for step, threads in enumerate((1, 2, 300, 3, 10**9, 1)):  # more than cores, more than blocks
        thalweg.set_num_threads(threads)
        opt.step(np.random.default_rng(step).normal(size=LARGE), max_norm=1.0)
    assert np.array_equal(params, expected)


def hammered(act: Any) -> tuple[thalweg.AdamW, list[Any]]:
    """An optimizer after `step` and `act` in four threads, and the results of `act`."""
    opt = thalweg.AdamW(np.ones(LARGE, np.float32))
    grads, enough, returned = np.ones(LARGE, np.float32), threading.Event(), []

    def repeat(work: Any) -> None:
        while len(returned) < CALLS and not enough.is_set():
            with contextlib.suppress(thalweg.BusyError):
                returned.append(work())
            time.sleep(0)  # yields to the other threads

    with ThreadPoolExecutor(4) as threads:
        works = (lambda: opt.step(grads), lambda: act(opt))
        running = [threads.submit(repeat, work) for work in works * 2]
        try:
            for each in running:
                each.result(TIMEOUT)
        finally:
            enough.set()
    return opt, [made for made in returned if not isinstance(made, thalweg.StepReport)]


def whole(step: int) -> dict[str, np.ndarray]:
    """Parameter and state after `step` steps with gradients of one."""
    opt = thalweg.AdamW(np.ones(1, np.float32))
    for _ in range(step):
        opt.step(np.ones(1, np.float32))
    return {"p": opt.params["0"], **opt.state["0"]}


def test_a_state_dict_is_consistent_while_other_threads_step() -> None:
    opt, saved = hammered(lambda opt: opt.state_dict())
    expected = whole(opt.step_count)
    assert (opt.params["0"] == expected["p"]).all()
    assert (opt.state["0"]["exp_avg_sq"] == expected["exp_avg_sq"]).all()
    assert saved
    for state_dict in saved[:: max(1, len(saved) // 20)]:
        leaf = state_dict["state"]["0"]
        assert leaf["step"] == state_dict["step_count"]
        expected = whole(leaf["step"])
        assert (leaf["exp_avg"] == expected["exp_avg"]).all()
        assert (leaf["exp_avg_sq"] == expected["exp_avg_sq"]).all()


def test_loading_is_atomic_while_other_threads_step() -> None:
    source = thalweg.AdamW(np.ones(LARGE, np.float32))
    source.step(np.full(LARGE, -1.0, np.float32))
    saved = source.state_dict()
    opt, loaded = hammered(lambda opt: opt.load_state_dict(saved))
    assert loaded
    for array in (opt.params["0"], opt.state["0"]["exp_avg"], opt.state["0"]["exp_avg_sq"]):
        assert (array == array[0]).all()

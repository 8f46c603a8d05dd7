"""Steps in a process that forks, spawns, uses pools, is interrupted or exits."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from processes import TIMEOUT, in_fork, needs_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL, LARGE = 1_000, 300_000


def made(size: int) -> thalweg.AdamW:
    return thalweg.AdamW({"a": np.ones(size, np.float32), "b": np.ones(3)}, lr=1e-3)


def gradients(size: int) -> dict[str, np.ndarray]:
    a = np.linspace(-1, 1, size, dtype=np.float32)
    return {"a": a, "b": np.array([1.0, 2.0, 3.0])}


def digest(opt: thalweg.Optimizer) -> str:
    """A hash of parameters, state and counters."""
    found = hashlib.sha256(repr(opt.step_count).encode())
    for name, leaf in opt.state.items():
        found.update(opt.params[name])
        for value in leaf.values():
            found.update(repr(value).encode() if isinstance(value, int) else value)
    return found.hexdigest()


@cache
def whole_numbers_of_steps(size: int, most: int) -> list[str]:
    """Digests of an optimizer after 0, 1, ..., `most` steps."""
    opt, grads = made(size), gradients(size)
    looks = [digest(opt)]
    for _ in range(most):
        opt.step(grads)
        looks.append(digest(opt))
    return looks


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], object]]:
    """A function that schedules an interrupt at a random instant within 10 ms."""
    rng = random.Random(3)  # noqa: S311 - instants, not secrets

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield lambda: signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 10e-3))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


@needs_fork
def test_a_fork_during_a_step_of_another_thread_sees_whole_steps() -> None:
    thalweg.set_num_threads(3)
    steps = 400
    looks = whole_numbers_of_steps(LARGE, steps + 2)
    opt, grads = made(LARGE), gradients(LARGE)
    started, enough = threading.Event(), threading.Event()

    def train() -> None:
        for _ in range(steps):
            opt.step(grads)
            started.set()
            if enough.is_set():
                return

    def look_and_step() -> str:
        before = opt.step_count
        assert digest(opt) == looks[before], "the child saw part of a step"
        assert opt.step(grads, max_norm=1e9).step == before + 1
        assert digest(opt) == looks[before + 1], "the child stepped to other bits"
        assert made(LARGE).step(grads).step == 1
        return str(before)

    with ThreadPoolExecutor(1) as threads:
        training = threads.submit(train)
        assert started.wait(TIMEOUT)
        seen = [in_fork(look_and_step) for _ in range(20)]
        enough.set()
        training.result(TIMEOUT)
    assert all(said.isdigit() for said in seen), seen
    assert digest(opt) == looks[opt.step_count]


@needs_fork
def test_a_child_forked_in_a_schedule_cannot_step() -> None:
    said = []

    def forking(step: int) -> float:
        if step == 2:
            said.append(in_fork(lambda: str(opt.step(grads))))
        return 1e-3

    opt, grads = made(SMALL), gradients(SMALL)
    opt.lr = forking
    for _ in range(3):
        opt.step(grads)
    assert len(said) == 1
    assert said[0].startswith("BusyError('this object is already in use")
    assert digest(opt) == whole_numbers_of_steps(SMALL, 3)[3]


PROGRAM = """
import os, sys
import numpy as np
import thalweg

parent = os.getpid()

def forking(step):
    if step == 2:
        child = os.fork()
        if child != 0:
            assert os.waitpid(child, 0)[1] == 0
    return 1e-3

params = np.ones(300_000)
opt = thalweg.AdamW(params, lr=forking)
for _ in range(4):
    opt.step(np.ones(300_000))
expected = np.ones(300_000)
other = thalweg.AdamW(expected, lr=1e-3)
for _ in range(4):
    other.step(np.ones(300_000))
assert opt.step_count == 4 and (params == expected).all()
print("whole", flush=True)
"""


@needs_fork
def test_parent_and_child_of_a_fork_in_a_schedule_finish_the_step() -> None:
    assert run(PROGRAM) == "whole\nwhole\n"


def run(program: str, *arguments: str) -> str:
    """The output of `program` in a new interpreter."""
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def train_one(opt: thalweg.AdamW, size: int) -> tuple[thalweg.AdamW, thalweg.StepReport]:
    report = opt.step(gradients(size), max_norm=1e9)
    return opt, report


def refused(opt: thalweg.AdamW) -> None:
    opt.step({"a": np.full(SMALL, np.nan), "b": np.ones(3)})


def busy(_: Any) -> None:
    raise thalweg.BusyError("stepping")


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_optimizers_reports_and_errors_cross_process_pools(method: str) -> None:
    thalweg.set_num_threads(2)
    made(LARGE).step(gradients(LARGE))  # the parent has threads
    context = multiprocessing.get_context(method)
    sizes = [SMALL] * 200 + [LARGE] * 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            trained = pool.map(train_one, [made(size) for size in sizes], sizes, timeout=TIMEOUT)
            for size, (opt, report) in zip(sizes, trained, strict=True):
                assert report == made(size).step(gradients(size), max_norm=1e9)
                assert digest(opt) == whole_numbers_of_steps(size, 1)[1]
                assert opt.step(gradients(size)).step == 2
            with pytest.raises(thalweg.NonFiniteError, match=r"a \(1000\)") as told:
                pool.submit(refused, made(SMALL)).result(TIMEOUT)
            assert (told.value.nonfinite, told.value.step) == ({"a": SMALL}, 1)
            with pytest.raises(thalweg.BusyError):
                pool.submit(busy, None).result(TIMEOUT)


THREADLESS = """
import resource, sys
import numpy as np
import thalweg

thalweg.set_num_threads(int(sys.argv[1]))
params, grads = np.ones(3_000_000), np.ones(3_000_000)
opt = thalweg.AdamW(params)
pages = int(open("/proc/self/statm").read().split()[0])
room = pages * resource.getpagesize() + 12_000_000  # stacks for a few threads
resource.setrlimit(resource.RLIMIT_AS, (room, room))
for _ in range(3):
    opt.step(grads)
print(opt.step_count, float(params[0]), float(params[-1]))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="nothing tells the memory")
def test_a_step_works_if_threads_cannot_be_started() -> None:
    assert run(THREADLESS, "150") == run(THREADLESS, "1")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the platform has no timers")
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_an_interrupt_leaves_a_whole_number_of_steps(size: int) -> None:
    most = 3_000 if size == SMALL else 150
    looks = whole_numbers_of_steps(size, most + 1)
    grads = gradients(size)
    interrupted = 0
    with interrupts() as arm:
        for _ in range(40):
            opt = made(size)
            with contextlib.suppress(KeyboardInterrupt):
                arm()
                for _ in range(most):
                    opt.step(grads)
                signal.setitimer(signal.ITIMER_REAL, 0)
            interrupted += opt.step_count < most
            assert {leaf["step"] for leaf in opt.state.values()} == {opt.step_count}
            assert digest(opt) == looks[opt.step_count]
            assert opt.step(grads).step == opt.step_count
            assert digest(opt) == looks[opt.step_count]
    assert interrupted


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_an_interrupt_leaves_no_step_open_and_no_average_in_the_parameters(size: int) -> None:
    most = 2_000 if size == SMALL else 100
    grads = gradients(size)
    looks: dict[str, list[bytes]] = {"a": [], "b": [], "average": []}

    def look(opt: thalweg.Optimizer, ema: thalweg.EMA) -> dict[str, bytes]:
        arrays = {**opt.params, "average": ema.params["a"]}
        return {name: hashlib.sha256(array).digest() for name, array in arrays.items()}

    def train(opt: thalweg.Optimizer, ema: thalweg.EMA) -> None:
        with opt.open_step() as step:
            step({"b": grads["b"]})
            step({"a": grads["a"]})
        ema.update()
        with ema.swapped(), contextlib.suppress(ValueError):
            raise ValueError

    def pair() -> tuple[thalweg.Optimizer, thalweg.EMA]:
        opt = made(size)
        return opt, thalweg.EMA(opt, 0.9)

    opt, ema = pair()
    for _ in range(most + 1):
        for name, seen in look(opt, ema).items():
            looks[name].append(seen)
        train(opt, ema)

    interrupted = 0
    with interrupts() as arm:
        for _ in range(40):
            opt, ema = pair()
            with contextlib.suppress(KeyboardInterrupt):
                arm()
                for _ in range(most):
                    train(opt, ema)
                signal.setitimer(signal.ITIMER_REAL, 0)
            interrupted += opt.step_count < most
            steps = {name: opt.state[name]["step"] for name in opt.params}
            assert steps["b"] == opt.step_count
            assert steps["a"] in {steps["b"], steps["b"] - 1}
            counts = {**steps, "average": ema.count}
            assert look(opt, ema) == {name: looks[name][count] for name, count in counts.items()}
            train(opt, ema)  # no step and no exchange is open
    assert interrupted


EXIT = """
import sys, threading, time
import numpy as np
import thalweg

class Slow:
    def __del__(self, sleep=time.sleep):  # the interpreter takes its time to die
        sleep(0.1)

size, slow = int(sys.argv[1]), Slow()
started = threading.Barrier(5)

def schedule(step):
    time.sleep(0.001)  # asks for the interpreter lock again
    return 1e-3

def train(lr):
    started.wait()
    while True:
        opt = thalweg.AdamW({"w": np.ones(size, np.float32)}, lr=lr)
        grads = {"w": np.ones(size, np.float32)}
        for _ in range(3):
            opt.step(grads, max_norm=1.0)
            thalweg.functional.decay(grads, 0.1)
            opt.load_state_dict(opt.state_dict())

for lr in (1e-3, schedule, 1e-3, schedule):
    threading.Thread(target=train, args=(lr,), daemon=True).start()
started.wait()
time.sleep(float(sys.argv[2]))
print("bye")
"""


@pytest.mark.parametrize("size", [10, 20_000, 300_000])
def test_the_interpreter_exits_while_threads_step(size: int) -> None:
    for moment in ("0", "0.01", "0.03"):
        assert run(EXIT, str(size), moment) == "bye\n"


WAITING = """
import threading
import thalweg
import numpy as np

inside = threading.Event()

def schedule(step):
    inside.set()
    threading.Event().wait()

opt = thalweg.SGD(np.ones(3), lr=schedule)
threading.Thread(target=opt.step, args=(np.ones(3),), daemon=True).start()
inside.wait()
"""


def test_a_schedule_that_waits_forever_does_not_block_interpreter_exit() -> None:
    assert run(WAITING) == ""


def resident() -> int:
    """Resident memory of the process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="nothing tells the memory")
@pytest.mark.parametrize(("size", "steps"), [(10, 10_000), (4_000_000, 20)])
def test_memory_does_not_grow(size: int, steps: int) -> None:
    thalweg.set_num_threads(2)
    params = {"layers": [{"w": np.ones((size, 1), np.float32)} for _ in range(2)]}
    opt = thalweg.AdamW(params, lr=lambda step: 1e-3 / step, nonfinite="skip")
    grads = {f"layers.{i}.w": np.ones((size, 1), np.float32) for i in range(2)}
    bad = {**grads, "layers.0.w": np.full((size, 1), np.nan)}

    def train(count: int) -> None:
        for step in range(count):
            opt.step(bad if step % 5 == 0 else grads, max_norm=1.0)
            with pytest.raises(ValueError, match="missing"):
                opt.step({"layers.0.w": grads["layers.0.w"]})

    train(5)
    gc.collect()  # pytest.raises leaves reference cycles behind, which are no growth
    memory, blocks = resident(), sys.getallocatedblocks()
    references = [sys.getrefcount(array) for array in (*grads.values(), *opt.params.values())]
    train(steps)
    now = [sys.getrefcount(array) for array in (*grads.values(), *opt.params.values())]
    assert now == references
    gc.collect()
    # A leak in each of 10,000 steps would exceed this.
    assert sys.getallocatedblocks() - blocks < 100
    assert resident() - memory < 2_000_000

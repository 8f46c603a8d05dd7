"""Kills at any moment, and limited memory: files are complete, or are known to be torn."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import thalweg
from mapping import bits, opened, undisturbed, wide
from rules import RULES
from thalweg._core import Word
from thalweg.mapped import limits

HERE = Path(__file__).parent
LIMIT = 48 << 20
"""Bytes of memory, in addition to those of the interpreter and its libraries."""

posix = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is needed")

LOOP = """
import sys
from pathlib import Path
from mapping import *
opt = opened(Path(sys.argv[1]), like=wide())
print("ready", flush=True)
while True:
    opt.step(wide(opt.step_count + 1))
"""
HEAD = """
import os, signal, sys
from pathlib import Path
from mapping import *
def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)
opt = opened(Path(sys.argv[1]))
opt.step(gradients(1))
opt.save(sys.argv[1] + "/before.safetensors")
"""
IN_THE_MIDDLE = {
    "open_step": "with opt.open_step() as part: part({'Body': gradients(2)['Body']}); killed()",
    "an open step that wrote nothing": "with opt.open_step(): killed()",
    "swapped": "ema = thalweg.EMA(dict(opt.params), 0.5)\nwith ema.swapped(): killed()",
    # Python code that runs between the first write and the last.
    "reset": "opt.state['Body']['exp_avg'].setflags(write=True)\nimport numpy as np\n"
    "class Kills(np.memmap):\n    fill = killed\n"
    "array = opt.state['none']['exp_avg']\narray.__class__ = Kills\nopt.reset()",
}
BETWEEN = {
    "a schedule": "opt.lr = killed\nopt.step(gradients(2))",
    "a gradient": "class Gradient:\n    __array__ = killed\n"
    "opt.step({**gradients(2), 'none': Gradient()})",
    "a step": "killed()",
}


def run(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True)  # noqa: S603


def words(directory: Path) -> np.ndarray:
    return np.fromfile(directory / "progress", "<u8")


@posix
def test_a_run_killed_at_random_continues_with_the_same_bits_or_is_refused_as_torn(
    tmp_path: Path,
) -> None:
    rng, whole, torn = random.Random(3), 0, 0  # noqa: S311 - no secret
    usual = RULES["AdamW"].make(wide())
    directory = tmp_path / "0"
    for attempt in range(30):
        child = run(LOOP, directory)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        seconds = rng.uniform(0, 0.03)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(seconds)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        found = words(directory)
        if found[Word.BEGUN] == found[Word.FINISHED]:
            whole += 1
            opt = opened(directory, like=wide())
            assert opt.step_count == found[Word.COUNTERS]
            while usual.step_count < opt.step_count:
                usual.step(wide(usual.step_count + 1))
            assert bits(opt) == bits(usual)
            opt.close()
        else:
            torn += 1
            with pytest.raises(ValueError, match="interrupted"):
                opened(directory, like=wide())
            directory, usual = tmp_path / str(attempt + 1), RULES["AdamW"].make(wide())
    assert whole > 0
    assert torn > 0


@posix
@pytest.mark.parametrize("when", IN_THE_MIDDLE)
def test_a_run_killed_during_a_write_is_refused(tmp_path: Path, when: str) -> None:
    child = run(HEAD + IN_THE_MIDDLE[when], tmp_path)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    found = words(tmp_path)
    assert found[Word.BEGUN] == found[Word.FINISHED] + 1
    with pytest.raises(ValueError, match=r"interrupted .*before\.safetensors"):
        opened(tmp_path)


@posix
@pytest.mark.parametrize("when", BETWEEN)
def test_a_run_killed_before_a_step_writes_continues(tmp_path: Path, when: str) -> None:
    child = run(HEAD + BETWEEN[when], tmp_path)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert bits(opened(tmp_path)) == bits(undisturbed("AdamW", 1))


# Limited memory

LARGE = """
import os, sys
import numpy as np
import thalweg
from types import SimpleNamespace
from mapping import *

directory, limit, group = sys.argv[1], int(sys.argv[2]), sys.argv[3]
file = {"1": "memory.limit_in_bytes", "2": "memory.max"}
taken = {"1": "memory.usage_in_bytes", "2": "memory.current"}
if group != "none":
    path, version = group.rsplit(":", 1)
    with open(f"{path}/cgroup.procs", "w") as procs:
        procs.write(str(os.getpid()))
    np.ones(1000).sum()
    with open(f"{path}/{file[version]}", "w") as limits:
        limits.write(str(limit + (16 << 20)))
from thalweg.mapped import state_dir
state_dir.memory_limit = lambda: limit
size = limit // 4
params = thalweg.map_params(directory, {"w": SimpleNamespace(shape=(size,), dtype=np.float32)})
grads = np.load(sys.argv[4], mmap_mode="r")
opt = thalweg.AdamW(params, lr=0.1, state_dir=directory)
for _ in range(2):
    opt.step({"w": grads}, max_norm=1.0)
status = open("/proc/self/status").read().splitlines()
print(*(line.split()[1] for line in status if line.startswith(("RssAnon", "RssFile"))))
"""


def make_group() -> str:
    """A new memory cgroup and its version, or "none" if it cannot be made."""
    places = [("/sys/fs/cgroup/memory", "1", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "2", "")]
    for root, version, file in places:
        path = Path(root) / f"thalweg-test-{os.getpid()}"
        try:
            path.mkdir()
            (path / (file or "memory.max")).write_text(str(1 << 30))
        except OSError:
            if path.is_dir():
                path.rmdir()
            continue
        return f"{path}:{version}"
    return "none"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("limited", [True, False])
def test_four_times_the_memory_limit_trains_to_the_right_bits(
    tmp_path: Path, limited: bool
) -> None:
    size = LIMIT // 4  # elements of four bytes, in each of four arrays
    row = np.random.default_rng(0).standard_normal(1 << 16).astype(np.float32)
    grads = np.lib.format.open_memmap(tmp_path / "g.npy", "w+", np.float32, (size,))
    for at in range(0, size, len(row)):
        grads[at : at + len(row)] = row[: size - at] * np.float32(1 + at / size)
    grads.flush()
    group = make_group() if limited else "none"
    try:
        child = run(LARGE, tmp_path / "dir", LIMIT, group, tmp_path / "g.npy")
        told, _ = child.communicate(timeout=120)
        assert child.returncode == 0
    finally:
        if group != "none":
            Path(group.rpartition(":")[0]).rmdir()
    in_memory, in_files = (int(kilobytes) << 10 for kilobytes in told.split())
    assert in_memory < LIMIT
    assert in_files < LIMIT  # of files four times as large

    norm = thalweg.functional.global_norm([grads])
    names = ("params/w", "state/w.exp_avg", "state/w.exp_avg_sq")
    found = [np.load(tmp_path / "dir" / f"{name}.npy", mmap_mode="r") for name in names]
    for start in range(0, size, 1 << 20):
        part = slice(start, start + (1 << 20))
        p, m, v = (np.zeros_like(grads[part], subok=False) for _ in range(3))
        for step in (1, 2):
            thalweg.functional.adamw(p, grads[part], m, v, step, lr=0.1, scale=1.0 / norm)
        for array, expected in zip(found, (p, m, v), strict=True):
            assert np.array_equal(array[part], expected)


def test_the_limits_of_all_enclosing_cgroups_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = limits.memory_limit()
    assert whole > 1 << 20
    (tmp_path / "memory/a/b").mkdir(parents=True)
    (tmp_path / "memory/a/memory.limit_in_bytes").write_text("4096\n")
    (tmp_path / "memory/a/b/memory.limit_in_bytes").write_text("8192\n")
    (tmp_path / "memory/memory.limit_in_bytes").write_text("max\n")
    assert limits._along(tmp_path / "memory", "/a/b", "memory.limit_in_bytes") == [8192, 4096]
    monkeypatch.setattr(limits, "CGROUPS", tmp_path / "none")
    assert limits.memory_limit() >= whole

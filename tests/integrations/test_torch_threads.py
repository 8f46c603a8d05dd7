"""Threads of the steps of `thalweg.torch`: those of torch, where it has enough."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import thalweg  # noqa: E402
import thalweg.torch  # noqa: E402
from processes import in_fork  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE = 300_000


@pytest.fixture(autouse=True)
def _torchs_threads() -> Iterator[None]:
    """Keep torch's number of threads; that of thalweg is kept for every test."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def grads() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(LARGE, np.float32) for _ in range(3)]


def trained() -> bytes:
    """The bits of a tensor after some steps of `thalweg.torch`."""
    tensor = torch.nn.Parameter(torch.ones(LARGE))
    opt = thalweg.torch.AdamW([tensor], lr=0.1)
    for g in grads():
        tensor.grad = torch.from_numpy(g)
        opt.step(max_norm=1.0)
    return tensor.detach().numpy().tobytes()


def expected() -> bytes:
    """The same bits from `thalweg.AdamW` on one thread."""
    thalweg.set_num_threads(1)
    params = np.ones(LARGE, np.float32)
    opt = thalweg.AdamW(params, lr=0.1)
    for g in grads():
        opt.step(g, max_norm=1.0)
    return params.tobytes()


@pytest.mark.parametrize(("torchs", "ours"), [(2, 2), (4, 2), (3, 4), (1, 2), (2, 1)])
def test_steps_have_the_same_bits_with_any_number_of_threads(torchs: int, ours: int) -> None:
    wanted = expected()
    torch.set_num_threads(torchs)
    thalweg.set_num_threads(ours)
    assert trained() == wanted


def test_a_forked_child_steps_without_the_threads_of_its_parent() -> None:
    torch.set_num_threads(2)
    thalweg.set_num_threads(2)
    tensor = torch.nn.Parameter(torch.ones(LARGE))
    tensor.grad = torch.ones(LARGE)
    opt = thalweg.torch.SGD([tensor], lr=0.5)
    opt.step()

    def step() -> str:  # nothing of torch that needs several threads: torch would hang
        opt.step()
        return str(set(tensor.detach().numpy()))

    assert in_fork(step) == str({np.float32(0.0)})


LIST_THREADS = f"""
import os
import time
import numpy as np
import thalweg
import thalweg.torch
import torch

def helpers():
    time.sleep(0.2)  # a thread names itself when it first runs
    names = [open(f"/proc/self/task/{{t}}/comm").read() for t in os.listdir("/proc/self/task")]
    return sum(name.startswith("thalweg-") for name in names)

torch.set_num_threads(TORCHS)
thalweg.set_num_threads(2)
tensor = torch.nn.Parameter(torch.ones({LARGE}))
opt = thalweg.torch.AdamW([tensor])
tensor.square().sum().backward()
opt.step()
print(helpers())
thalweg.AdamW(np.ones({LARGE}, np.float32)).step(np.ones({LARGE}, np.float32))
print(helpers())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are listed in /proc on Linux")
@pytest.mark.skipif("OpenMP" not in torch.__config__.parallel_info(), reason="needs OpenMP")
@pytest.mark.parametrize(
    ("torchs", "helpers"),
    [
        pytest.param(3, "0 1", id="enough"),
        pytest.param(1, "1 1", id="too few"),
    ],
)
def test_a_step_uses_the_threads_of_torch_if_it_has_enough(torchs: int, helpers: str) -> None:
    script = LIST_THREADS.replace("TORCHS", str(torchs))
    done = subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == helpers.split()

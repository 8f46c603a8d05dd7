"""Saving and loading take no memory that grows with the model, by the peak that Linux reports."""

import subprocess
import sys
from pathlib import Path

import pytest

# One process for each case, as in test_memory.py.
PROGRAM = """
import re, sys
from pathlib import Path
import numpy as np
import thalweg

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

def made(tensors):
    shape = (2_400_000 // tensors,)
    order = {order!r}
    if order == "F":
        shape = (2, 1_200_000 // tensors)
    params = {{f"w{{i}}": np.zeros(shape, np.float32, order=order) for i in range(tensors)}}
    opt = thalweg.AdamW(params)
    # Broadcast gradients take no memory: a higher peak before would hide the growth.
    opt.step({{name: np.broadcast_to(0.5, shape) for name in params}})
    return opt

path = Path(sys.argv[1])
opt = made({tensors})
small = thalweg.AdamW({{"w": np.ones(4)}})
small.save(path)
small.load(path)
thalweg.read_checkpoint(path)
if {act!r} != "opt.save(path)":
    opt.save(path)
before = peak()
{act}
print(peak() - before)
"""


def growth(path: Path, act: str, tensors: int = 2, order: str = "C") -> int:
    """Growth of the peak, in KiB."""
    program = PROGRAM.format(act=act, tensors=tensors, order=order)
    done = subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.parametrize("act", ["opt.save(path)", "opt.load(path)"])
@pytest.mark.parametrize(("tensors", "order"), [(2, "C"), (2, "F"), (600, "C")])
def test_the_peak_does_not_grow_with_the_model(
    act: str, tensors: int, order: str, tmp_path: Path
) -> None:
    # In KiB, the arrays take 28,100; names, shapes and the header take 3 per tensor.
    assert growth(tmp_path / "run.safetensors", act, tensors, order) < 9_000


def test_the_measurement_detects_a_copy(tmp_path: Path) -> None:
    assert growth(tmp_path / "run.safetensors", "opt.state_dict(copy=True)") > 15_000

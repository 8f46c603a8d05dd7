"""A step allocates nothing that grows with the model: peak resident memory, read from Linux."""

import subprocess
import sys

import pytest

# Peak resident memory never falls, so each case runs in a fresh process. `VmHWM` instead of
# `ru_maxrss`: a child inherits the `ru_maxrss` of its parent.
PROGRAM = """
import re
from pathlib import Path
import numpy as np
import thalweg

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

side = 3000
params = {{"w": np.ones((side, side), np.float32)}}
made = thalweg.{make}
g = {gradient}
small = np.ones((4, 4), np.float32)
thalweg.AdamW(small).step(small.copy(), max_norm=1.0)
before = peak()
for _ in range(3):
    {act}
print(peak() - before)
"""

DENSE = "np.full((side, side), 0.5, np.float32)"
STEP = "made.step({'w': g})"
CASES = {
    "default": ("AdamW(params)", DENSE, STEP),
    "clipped": ("AdamW(params)", DENSE, "made.step({'w': g}, max_norm=1.0)"),
    "clipped by tensor": ("AdamW(params)", DENSE, "made.step({'w': g}, max_tensor_norm=1.0)"),
    "clipped by value": ("AdamW(params)", DENSE, "made.step({'w': g}, max_value=1.0)"),
    "statistics": ("AdamW(params)", f"{DENSE}.T", "made.step({'w': g}, stats=True)"),
    "float64 gradient": ("AdamW(params)", "np.full((side, side), 0.5)", STEP),
    "transposed gradient": ("AdamW(params)", f"{DENSE}.T", STEP),
    "AMSGrad": ("AdamW(params, amsgrad=True)", DENSE, STEP),
    "SGD": ("SGD(params, 0.1, momentum=0.9)", DENSE, STEP),
    "open step": (
        "AdamW(params)",
        DENSE,
        "with made.open_step() as step: step({'w': g})",
    ),
    "sum": ("Accumulator(params)", f"{DENSE}.T", "made.add({'w': g}); made.grads"),
    "average": ("EMA(params, 0.9)", DENSE, "made.update(); made.params"),
    "exchange": (
        "EMA(params, 0.9)",
        DENSE,
        "with made.swapped(): params['w'][0, 0] = 1.0",
    ),
}


def growth(make: str, gradient: str, act: str) -> int:
    """Growth of the peak in KiB while `act` runs three times."""
    program = PROGRAM.format(make=make, gradient=gradient, act=act)
    done = subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.parametrize(("make", "gradient", "act"), CASES.values(), ids=CASES)
def test_a_step_allocates_nothing_that_grows_with_the_model(
    make: str, gradient: str, act: str
) -> None:
    # The parameter alone takes 35,000 KiB; the limit leaves room for thread stacks and page tables.
    assert growth(make, gradient, act) < 2_000


def test_the_measurement_detects_a_temporary_array() -> None:
    make, gradient, _ = CASES["default"]
    assert growth(make, gradient, "made.step({'w': g}, scale=float((g * g).max() * 4.0))") > 20_000

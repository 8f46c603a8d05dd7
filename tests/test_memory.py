"""A step allocates nothing that grows with the model (peak resident memory, as Linux tells it)."""

import subprocess
import sys

import pytest

# Peak resident memory never falls, so each case has a process of its own. The kernel's `ru_maxrss`
# would not do: a child begins with its parent's.
PROGRAM = """
import re
from pathlib import Path
import numpy as np
import thalweg

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

side = 3000
params = {{"w": np.ones((side, side), np.float32)}}
opt = thalweg.{make}
g = {gradient}
small = np.ones((4, 4), np.float32)
thalweg.AdamW(small).step(small.copy(), max_norm=1.0)
before = peak()
for _ in range(3):
    opt.step({{"w": g}}, {arguments})
print(peak() - before)
"""

CASES = {
    "default": ("AdamW(params)", "np.full((side, side), 0.5, np.float32)", ""),
    "clipped": ("AdamW(params)", "np.full((side, side), 0.5, np.float32)", "max_norm=1.0"),
    "float64 gradient": ("AdamW(params)", "np.full((side, side), 0.5)", ""),
    "transposed gradient": ("AdamW(params)", "np.full((side, side), 0.5, np.float32).T", ""),
    "AMSGrad": (
        "AdamW(params, amsgrad=True)",
        "np.full((side, side), 0.5, np.float32)",
        "",
    ),
    "SGD": ("SGD(params, 0.1, momentum=0.9)", "np.full((side, side), 0.5, np.float32)", ""),
}


def growth(make: str, gradient: str, arguments: str) -> int:
    """Kibibytes that the peak grew by during three steps."""
    program = PROGRAM.format(make=make, gradient=gradient, arguments=arguments)
    done = subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.parametrize(("make", "gradient", "arguments"), CASES.values(), ids=CASES)
def test_a_step_needs_no_room_that_grows_with_the_model(
    make: str, gradient: str, arguments: str
) -> None:
    # The parameter alone has 35,000; what little there is are thread stacks and page tables.
    assert growth(make, gradient, arguments) < 2_000


def test_the_measure_sees_a_temporary() -> None:
    make, gradient, _ = CASES["default"]
    assert growth(make, gradient, "scale=float((g * g).max() * 4.0)") > 20_000

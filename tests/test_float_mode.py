"""Results do not depend on the floating-point mode of the caller's thread, and the mode is kept."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from thalweg import SGD, SGDW, Accumulator, Adam, AdamW, functional, schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="sets the mode as glibc does"
)

MODES = {"flush": 0x8000, "denormals are zero": 0x0040, "down": 0x2000, "up": 0x4000, "cut": 0x6000}
MODES["flush, denormals are zero, up"] = 0x8000 | 0x0040 | 0x4000
CONTROL = 0xFFC0
"""Control bits of MXCSR; the others are status flags."""


class Environment:
    """The floating-point environment of the thread; its last word is MXCSR, the register of SSE."""

    def __init__(self) -> None:
        self.libm = ctypes.CDLL(ctypes.util.find_library("m"))
        self.words = (ctypes.c_uint32 * 8)()

    def get(self) -> int:
        self.libm.fegetenv(self.words)
        return self.words[7] & CONTROL

    def set(self, control: int) -> None:
        self.libm.fegetenv(self.words)
        self.words[7] = control
        self.libm.fesetenv(self.words)


@contextmanager
def mode(bits: int) -> Iterator[None]:
    """Set the mode inside the block; it changes results of NumPy and Python there, too."""
    environment = Environment()
    before = environment.get()
    environment.set(before | bits)
    try:
        yield
        after = environment.get()
    finally:
        environment.set(before)
    assert after == before | bits


N = 200_000
RNG = np.random.default_rng(0)
SMALL = RNG.standard_normal((3, N)) * 10.0 ** RNG.integers(-45, 2, (3, N))
"""Numbers of which some are subnormal in float32, and more of their products."""
ODD = [0.1 / 3, 1 / 7, 0.3]
"""Numbers whose products have to be rounded."""


def arrays(dtype: Any) -> tuple[Any, Any, Any]:
    with np.errstate(under="ignore"):
        p, g, more = (np.concatenate([row, ODD]).astype(dtype) for row in SMALL)
    return p, g, more


def steps(make: Callable[[Any], Any], **arguments: Any) -> Callable[[Any], Callable[[], Any]]:
    def prepared(dtype: Any) -> Callable[[], Any]:
        p, g, more = arrays(dtype)
        opt = make({"w": p, "s": p[:5].copy()})
        given = [{"w": g, "s": g[:5]}, {"w": more, "s": more[:5]}]

        def run() -> Any:
            reports = [opt.step(grads, **arguments) for grads in given]
            return [p, *opt.state["w"].values(), *reports, reports[-1].stats]

        return run

    return prepared


def averaged(dtype: Any) -> Callable[[], Any]:
    p, _, more = arrays(dtype)
    opt = SGD({"w": p}, 0.1)
    ema = thalweg.EMA(opt, 0.999, bias_correction=True)
    opt.step({"w": more})

    def run() -> Any:
        ema.update()
        return ema.params["w"]

    return run


def summed(dtype: Any) -> Callable[[], Any]:
    p, g, more = arrays(dtype)
    acc = Accumulator({"w": p})

    def run() -> Any:
        acc.add({"w": g}, weight=0.3)
        acc.add({"w": more}, weight=1 / 3)
        return [acc.grads["w"], acc.weight]

    return run


def called(function: Callable[..., Any], **arguments: Any) -> Callable[[Any], Callable[[], Any]]:
    def prepared(dtype: Any) -> Callable[[], Any]:
        given = arrays(dtype)
        return lambda: (function(*given, **arguments), *given)

    return prepared


COSINE = schedule.cosine(total=7, warmup=3) * 0.1
WAYS: dict[str, Callable[[Any], Callable[[], Any]]] = {
    "AdamW": steps(AdamW),
    "AdamW, stats, clipped": steps(
        lambda p: AdamW(p, lr=COSINE, groups=[{"match": "s", "lr_scale": 0.7}]),
        max_norm=0.7,
        stats=True,
        scale=1 / 3,
    ),
    "AMSGrad, tensor norm": steps(lambda p: Adam(p, amsgrad=True, l2=0.1), max_tensor_norm=0.7),
    "SGD": steps(lambda p: SGD(p, 1e-3)),
    "SGDW": steps(lambda p: SGDW(p, 0.1, momentum=0.9, nesterov=True)),
    "average": averaged,
    "sum": summed,
    "norm": called(lambda g, *_: functional.global_norm({"g": g})),
    "clip": called(lambda g, *_: functional.clip_by_global_norm({"g": g}, 0.1)),
    "decay": called(lambda p, *_: functional.decay({"p": p}, 0.01)),
    "function": called(
        lambda p, g, m: functional.sgdw(p, g, m, 3, lr=0.1 / 3, momentum=0.9, weight_decay=0.01)
    ),
}


def bits(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [bits(one) for one in value]
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_mode_of_the_caller_changes_no_bit(way: str, dtype: Any) -> None:
    thalweg.set_num_threads(1)
    expected = bits(WAYS[way](dtype)())
    for threads in (1, 2):
        thalweg.set_num_threads(threads)
        for control in MODES.values():
            run = WAYS[way](dtype)
            with mode(control):
                got = run()
            assert bits(got) == expected


def test_the_mode_changes_results_of_numpy() -> None:
    tiny, one, three = np.float32(1e-40), np.float64(1), np.float64(3)
    expected = tiny * np.float32(1), one / three
    with mode(MODES["flush, denormals are zero, up"]):
        got = tiny * np.float32(1), one / three
    assert got[0] != expected[0]
    assert got[1] != expected[1]


def test_threads_that_start_in_another_mode_compute_in_the_default_one() -> None:
    program = """
import sys
import numpy as np, thalweg
from test_float_mode import MODES, mode
thalweg.set_num_threads(2)
p = np.full(400_000, 1e-39, np.float32)
opt = thalweg.SGD(p, 1.0)
g = np.full(400_000, 1e-40, np.float32)
with mode(MODES["denormals are zero"]):
    opt.step(g)
print(*sorted(set(p.tolist())))
"""
    told = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert len(told.stdout.split()) == 1

"""The promise that a step allocates nothing: growth of the peak by steps, and size of the state."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.bench.cases import convert, draw_gradients, draw_parameters, large
from thalweg.cli.bench.contenders import FLOAT32, FLOAT64
from thalweg.cli.bench.display import print_table
from thalweg.cli.bench.native import Thalweg, adamw, amsgrad, plain_sgd, sgd
from thalweg.cli.bench.tables import three_digits

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike

    import thalweg
    from sections import Options
    from thalweg.cli.bench.formulas import Arrays
    from thalweg.cli.bench.stepper import Step

TITLE = "state, and growth of the peak over 20 steps"
RULES: dict[str, Callable[[Arrays], thalweg.Optimizer]] = {
    "AdamW": adamw,
    "AMSGrad": amsgrad,
    "SGD momentum": sgd,
    "SGD": plain_sgd,
}
HEADINGS = ("bytes of", "state a parameter", "growth", "one array")
ELEMENTS = 16 << 20
STEPS = 20


def _resident(field: str) -> int:
    """Return bytes by Linux's account: VmRSS now, VmHWM at the peak.

    `ru_maxrss` cannot replace it: a child inherits its parent's.
    """
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition(f"{field}:")[2].split()[0])


def _forget_peak() -> None:
    # Otherwise memory that construction used and freed hides the growth by a step.
    Path("/proc/self/clear_refs").write_text("5")


def _subject(name: str, dtype: DTypeLike, elements: int) -> tuple[Thalweg, Step]:
    case = large(elements)
    stepper = Thalweg(RULES[name], convert(draw_parameters(case), dtype), max_norm=1.0)
    return stepper, stepper.bind(convert(draw_gradients(case), dtype))


def measure(name: str, dtype: DTypeLike, elements: int) -> tuple[float, int]:
    """Return bytes of state a parameter, and the growth of the peak; for a fresh process."""
    # Start the threads first, since their stacks are no allocation of a step.
    _, warm = _subject(name, dtype, 1 << 17)
    warm.run()
    stepper, step = _subject(name, dtype, elements)
    _forget_peak()
    before = _resident("VmRSS")
    for _ in range(STEPS):
        step.run()
    grown = _resident("VmHWM") - before
    ((_, *state),) = stepper.written().values()
    return sum(array.nbytes for array in state) / elements, grown


def run(options: Options) -> None:
    """Measure each rule in a fresh process, so that none reuses memory that another has freed."""
    elements = options.pick(ELEMENTS, 1 << 20)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["thalweg.cli.bench.measure"])
    cases = [(name, dtype, elements) for dtype in (FLOAT32, FLOAT64) for name in RULES]
    with context.Pool(1, maxtasksperchild=1) as fresh:
        measured = fresh.starmap(measure, cases, chunksize=1)
    cells = [
        (f"{name} {dtype}", three_digits(state), f"{growth:,}", f"{elements * dtype.itemsize:,}")
        for (name, dtype, _), (state, growth) in zip(cases, measured, strict=True)
    ]
    print_table(f"{elements:,} elements", HEADINGS, cells)

"""Time of a step with rows of a large table, against one with an array of as many rows.

Both are taken in turn, in one process. Rows are drawn anew for each step. Each case is checked
against the reference first.

    python benches/rows.py    # half a minute, 3 GB of memory
"""

from __future__ import annotations

import argparse
import sys
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

import thalweg
from thalweg import reference
from thalweg.cli.arguments import integer

if TYPE_CHECKING:
    from collections.abc import Sequence

COUNT, WIDTH = 1_000, 256
HEIGHTS = [10_000, 100_000, 1_000_000]


def check(height: int) -> None:
    """Compare one step with the reference."""
    rng = np.random.default_rng(0)
    p = rng.standard_normal((height, 8), np.float32)
    rows = thalweg.Rows(rng.integers(0, height, 100), rng.standard_normal((100, 8), np.float32))
    chosen, sums = reference.sum_rows(rows.indices, rows.values, np.float32)
    state = [np.zeros_like(p)] * 2
    expected, *_ = reference.lazy(
        reference.adam, p, chosen, sums, state, step=1, lr=1e-3, weight_decay=1e-2
    )
    thalweg.AdamW({"table": p}, rows="lazy").step({"table": rows})
    if not np.array_equal(p, expected):
        raise RuntimeError("a step differs from the reference")


def medians(height: int, steps: int, *, repeated: bool) -> tuple[float, float]:
    """Seconds of a step with rows, and of one with an array."""
    rng = np.random.default_rng(1)
    table = np.full((height, WIDTH), 0.5, np.float32)
    lazy = thalweg.AdamW({"table": table}, rows="lazy")
    dense = thalweg.AdamW({"array": np.full((COUNT, WIDTH), 0.5, np.float32)})
    for array in lazy.state["table"].values():
        if isinstance(array, np.ndarray):
            array.fill(0.1)  # so that its pages exist
    g = rng.standard_normal((COUNT, WIDTH), np.float32)
    times = []
    for _ in range(steps):
        drawn = rng.integers(0, height, COUNT) if repeated else rng.choice(height, COUNT, False)
        rows = thalweg.Rows(drawn, g)
        start = perf_counter()
        lazy.step({"table": rows})
        middle = perf_counter()
        dense.step({"array": g})
        times.append((middle - start, perf_counter() - middle))
    one, other = np.median(times[steps // 20 :], axis=0)
    return float(one), float(other)


def main(argv: Sequence[str] | None = None) -> int:
    """Print two lines for each height."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--heights", nargs="+", type=integer(COUNT), default=HEIGHTS)
    parser.add_argument("--steps", type=integer(1), default=200, help="(default 200)")
    given = parser.parse_args(argv)
    print(f"{COUNT} rows of {WIDTH} float32, AdamW, {thalweg.get_num_threads()} threads")
    print(f"{'height':>10} {'rows':>10} {'us':>8} {'array, us':>10} {'ratio':>6}")
    for height in given.heights:
        check(height)
        for repeated in (False, True):
            one, other = medians(height, given.steps, repeated=repeated)
            kind = "drawn" if repeated else "distinct"
            figures = f"{one * 1e6:8.0f} {other * 1e6:10.0f} {one / other:6.2f}"
            print(f"{height:>10,} {kind:>10} {figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

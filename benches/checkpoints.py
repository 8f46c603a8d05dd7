"""Times of saving and loading, next to NumPy's for writing and reading the same bytes.

    python benches/checkpoints.py DIRECTORY           # on the disk of that directory, two minutes
    python benches/checkpoints.py DIRECTORY --tiny    # a test that it runs; its times mean nothing

The time of a write includes the flush to the disk; reads come from the page cache. `torch.save` and
safetensors are timed where they are installed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import thalweg
from thalweg import machine
from thalweg.cli.arguments import integer
from thalweg.cli.bench.display import print_setting, print_table
from thalweg.cli.bench.rounds import race
from thalweg.cli.bench.stepper import Step
from thalweg.cli.bench.tables import format_time, three_digits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thalweg.cli.bench.formulas import Array, Arrays

BYTES = 256 << 20
"""Bytes of parameters and state."""
MODELS = {"few": 4, "many": 2000}
"""Number of parameters by model."""
STATES = 3
"""Arrays for each parameter: itself and two of state."""
ROUNDS = 11


class Subject:
    """An optimizer, its arrays by name, and the functions that save and load them."""

    def __init__(self, directory: Path, tensors: int, size: int) -> None:
        rng = np.random.default_rng(0)
        elements = max(size // (STATES * 4 * tensors), 1)
        params = {f"layer{i}.w": rng.standard_normal(elements, np.float32) for i in range(tensors)}
        self.opt = thalweg.AdamW(params)
        self.opt.step({name: rng.standard_normal(elements, np.float32) for name in params})
        self.arrays: Arrays = dict(params)
        for name, leaf in self.opt.state.items():
            self.arrays |= {f"{name}.{key}": leaf[key] for key in ("exp_avg", "exp_avg_sq")}
        self.bytes = sum(array.nbytes for array in self.arrays.values())
        self.own, self.plain, self.torch, self.safe = (
            directory / name
            for name in ("own.safetensors", "plain", "torch.pt", "safe.safetensors")
        )

    def writers(self) -> dict[str, Step]:
        """Writers by name; the others are compared with the first."""
        timed = {"NumPy, tofile": Step(self._plainly), "opt.save": Step(self._save)}
        if find_spec("safetensors"):
            from safetensors.numpy import save_file  # noqa: PLC0415 - if it is installed

            write = partial(save_file, self.arrays, self.safe)
            timed["safetensors, save_file"] = Step(partial(flushed, write, self.safe))
        if find_spec("torch"):
            import torch  # noqa: PLC0415 - if it is installed

            tensors = {name: torch.from_numpy(array) for name, array in self.arrays.items()}
            write = partial(torch.save, tensors, self.torch)
            timed["torch.save"] = Step(partial(flushed, write, self.torch))
        return timed

    def readers(self) -> dict[str, Step]:
        """Readers of the files that the writers have written, by name."""
        timed = {
            "NumPy, fromfile": Step(self._read_plainly),
            "opt.load": Step(partial(self.opt.load, self.own)),
            "read_checkpoint": Step(partial(thalweg.read_checkpoint, self.own)),
        }
        if self.safe.exists():
            from safetensors.numpy import load_file  # noqa: PLC0415 - if it is installed

            timed["safetensors, load_file"] = Step(partial(load_file, self.safe))
        if self.torch.exists():
            import torch  # noqa: PLC0415 - if it is installed

            timed["torch.load"] = Step(partial(torch.load, self.torch, weights_only=True))
        return timed

    def check(self) -> None:
        """End the benchmark unless loading restores what was saved."""
        before = [array.copy() for array in self.arrays.values()]
        self._plainly()
        self._save()
        read = thalweg.read_checkpoint(self.own)
        if read.params is None or not all(
            np.array_equal(read.params[name], array) for name, array in self.opt.params.items()
        ):
            sys.exit("read_checkpoint gives other parameters than were saved; nothing was timed")
        for array in self.arrays.values():
            array.fill(0)
        self.opt.load(self.own)
        for found in (self.arrays.values(), self._read_plainly()):
            if not all(map(np.array_equal, found, before)):
                sys.exit("other arrays come back than were saved; nothing was timed")

    def _plainly(self) -> None:
        with self.plain.open("wb") as file:
            for array in self.arrays.values():
                array.tofile(file)
            file.flush()
            os.fsync(file.fileno())

    def _read_plainly(self) -> list[Array]:
        with self.plain.open("rb") as file:
            return [np.fromfile(file, a.dtype, a.size) for a in self.arrays.values()]

    def _save(self) -> None:
        self.opt.save(self.own)


def flushed(write: partial[Any], path: Path) -> None:
    """Write a file and flush it to the disk, as `Optimizer.save` does."""
    write()
    with path.open("rb") as file:
        os.fsync(file.fileno())


def show(title: str, steps: dict[str, Step], size: int, rounds: int) -> None:
    """Time all steps in turn and print a table; speed is relative to the first."""
    times = race(steps, rounds)
    base, *_ = times.values()
    cells = []
    for name, taken in times.items():
        speed = f"{size / taken.median / 1e6:,.0f}"
        cells.append((name, format_time(taken.median), speed, three_digits(base.ratio(taken))))
    print_table(title, ("", "time", "MB/s", "speed"), cells)


def main(argv: Sequence[str] | None = None) -> int:
    """Save and load models of few and of many tensors."""
    arguments = _parser().parse_args(argv)
    size = 1 << 20 if arguments.tiny else BYTES
    rounds = arguments.rounds or (1 if arguments.tiny else ROUNDS)
    packages = [name for name in ("safetensors", "torch") if find_spec(name)]
    print_setting(machine.facts(packages), [])
    for name in arguments.only or MODELS:
        with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
            tensors = min(MODELS[name], 8) if arguments.tiny else MODELS[name]
            subject = Subject(Path(directory), tensors, size)
            subject.check()
            print(f"\n{name}: {STATES * tensors:,} tensors, {subject.bytes:,} bytes")
            show("to the disk", subject.writers(), subject.bytes, rounds)
            show("from the page cache", subject.readers(), subject.bytes, rounds)
    return 0


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument(
        "directory", type=Path, help="where files of 1.3 GB are written and removed"
    )
    parser.add_argument("--only", nargs="+", choices=MODELS, help="which models")
    parser.add_argument("--tiny", action="store_true", help="everything small, in a few seconds")
    parser.add_argument(
        "--rounds", type=integer(1), help=f"samples of each time (default: {ROUNDS})"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

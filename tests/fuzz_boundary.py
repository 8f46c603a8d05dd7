"""Fuzzes the native boundary with random arrays of every kind in every role.

    python tests/fuzz_boundary.py --seconds 60        # or --inputs 1000000
    python tests/fuzz_boundary.py --replay 123456     # one input again

`fuzz_cases` defines inputs and their expected outcomes. Workers are processes, so that a crash is
found and reported with its input.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import queue
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fuzz_cases import one

if TYPE_CHECKING:
    from collections.abc import Iterable


def work(seeds: Iterable[int], at: Any, stop: Any, results: Any) -> None:
    """Run inputs; `at` holds the current one, for the parent to read after a crash."""
    outcomes: Counter[str] = Counter()
    failed = None
    for seed in seeds:
        at.value = seed
        try:
            outcomes[one(seed)] += 1
        except BaseException as error:  # noqa: BLE001 - reported with its input
            failed = (seed, repr(error))
            break
        if stop.is_set():
            break
    results.put((outcomes, failed))


@dataclass
class Run:
    """`jobs` workers; each runs every `jobs`-th input."""

    inputs: range
    jobs: int
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.stop, self.results = context.Event(), context.Queue()
        self.workers = {}
        for i in range(self.jobs):
            at = context.Value("q", 0, lock=False)
            arguments = (self.inputs[i :: self.jobs], at, self.stop, self.results)
            self.workers[context.Process(target=work, args=arguments)] = at

    def until(self, deadline: float) -> None:
        """Wait for the workers; stop them at the deadline, or when one has failed."""
        for worker in self.workers:
            worker.start()
        while self.workers:
            if time.monotonic() > deadline or self.failures:
                self.stop.set()
            self._take(0.2)
            for worker in [worker for worker in self.workers if not worker.is_alive()]:
                at = self.workers.pop(worker).value
                if worker.exitcode != 0:
                    self.failures.append((at, f"the process died, exit code {worker.exitcode}"))
        while self._take(0.2):
            pass

    def _take(self, patience: float) -> bool:
        try:
            outcomes, failed = self.results.get(timeout=patience)
        except queue.Empty:
            return False
        self.outcomes += outcomes
        self.failures += [failed] if failed else []
        return True


def main() -> int:
    form = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--inputs", type=int, help="run so many inputs instead")
    parser.add_argument("--seed", type=int, help="the first input; drawn if it is not given")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--replay", type=int, help="run this input only")
    options = parser.parse_args()
    if options.replay is not None:
        print(one(options.replay))
        return 0
    first = int.from_bytes(os.urandom(5), "big") if options.seed is None else options.seed
    started = time.monotonic()
    run = Run(range(first, first + (options.inputs or 2**62)), options.jobs)
    run.until(math.inf if options.inputs else started + options.seconds)
    total = sum(run.outcomes.values())
    print(f"{total:,} inputs from {first} on, {time.monotonic() - started:.0f} s")
    for outcome, count in sorted(run.outcomes.items()):
        print(f"{count:>10,}  {outcome}")
    for seed, what in run.failures:
        print(f"FAILED {what}\n  python {sys.argv[0]} --replay {seed}")
    return 1 if run.failures or total == 0 else 0


if __name__ == "__main__":
    sys.exit(main())

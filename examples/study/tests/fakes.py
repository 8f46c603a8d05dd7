"""Claims, tasks and a report that take no time, and the command with them instead of its own.

    python examples/study/tests/fakes.py ...

What a test wants is in variables, which workers inherit: tasks write a line into the file that
FAKES_LOG names, so that it is seen what was performed, and those that are hooked do what FAKES_HOOK
says, so that a study can be made to fail and then go on. Every worker of the tests begins with this
file, so that it imports little: what takes a second to import is imported where it is used.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import patch

import numpy as np
from threadpoolctl import threadpool_info

import thalweg
from thalweg_study.claim import Chapter, Picture, Setting, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thalweg_study.claim import Outcome, Perform
    from thalweg_study.findings import Findings
    from thalweg_study.task import Record, Task
    from thalweg_study.training import Training

LOG, HOOK = "FAKES_LOG", "FAKES_HOOK"


@dataclass(frozen=True)
class Draw:
    """A number that the seed decides, and what to know about the process."""

    kind: ClassVar[str] = "draw"

    seed: int
    label: str = 'a "label", with a comma'
    hooked: bool = False
    cost: float = 0.01

    def perform(self) -> Record:
        if LOG in os.environ:
            with Path(os.environ[LOG]).open("a", encoding="utf-8") as log:
                log.write(f"{self.seed} {os.getpid()}\n")
        extra = 0.0
        if self.hooked:
            extra = HOOKS[os.environ.get(HOOK, "")]()
        value = float(np.random.default_rng(self.seed).standard_normal())
        matrix = np.random.default_rng(self.seed).standard_normal((64, 64))
        return {
            "value": value,
            "sum": float((matrix @ matrix).sum()),
            "threads": thalweg.get_num_threads(),
            "blas": max(pool["num_threads"] for pool in threadpool_info()),
            "extra": extra,
            "stopped": None,
            "curves": {"value": [value, 1 / 3]},
        }


@dataclass(frozen=True)
class Other:
    """Another kind of task with the same settings."""

    kind: ClassVar[str] = "other"

    seed: int
    cost: float = 0.01

    def perform(self) -> Record:
        return {"seed": -self.seed, "whole": True}


def _fail() -> float:
    raise ValueError("there is nothing to draw")


def _die() -> float:
    os._exit(9)


def _wait() -> float:
    """Take longer than any test."""
    print("waiting", flush=True)
    signal.pause()
    return 0.0


HOOKS = {"": lambda: 0.0, "fail": _fail, "die": _die, "nan": lambda: math.nan, "wait": _wait}


@dataclass(frozen=True)
class Fake:
    """A claim about some tasks."""

    NAME: str
    tasks: tuple[Task, ...]
    outcome: Outcome = "holds"
    SUMMARY: str = "A summary"
    TITLE: str = "A title"
    QUESTION: str = "Is it so?"
    SOURCE: str = "Somebody (2020)"

    def plan(self, _: Setting, /) -> Sequence[Task]:
        return self.tasks

    def study(self, _: Setting, perform: Perform, /) -> Chapter:
        from matplotlib.figure import Figure  # noqa: PLC0415 - see above

        records = perform(self.tasks)
        sentence = f"What {self.NAME} says is [so] and takes more words than a line of a terminal."
        verdict = Verdict(sentence, "It is so if.", self.outcome, f"{len(records)} records, λ = 1")
        return Chapter((verdict,), (Picture("p", Figure(), "c", "d"),), (), "It was done.")


DRAWS = tuple(map(Draw, range(60)))


def trainings() -> tuple[Training, ...]:
    """Real ones, of two epochs."""
    from thalweg_study.training import Training  # noqa: PLC0415 - see above

    return tuple(Training("digits", "mlp", "adamw", 0.01, 0.1, 2, seed) for seed in range(3))


def claims() -> dict[str, Fake]:
    """Instead of the real ones, by their names; the last one has a task that is hooked."""
    last = Draw(1000, hooked=True)
    fakes = (
        Fake("equivalence", (*DRAWS[:40], *DRAWS[:5])),
        Fake("heat-maps", (*DRAWS[30:], *map(Other, range(4))), "does not hold"),
        Fake("generalisation", trainings(), "undecided"),
        Fake("schedules", (last,)),
    )
    return {fake.NAME: fake for fake in fakes}


def report() -> Any:
    """A module that writes all findings as they are."""

    def write(findings: Findings, directory: Path) -> Path:
        path = directory / "report.html"
        path.write_text(repr(findings), encoding="utf-8")
        return path

    module = ModuleType("thalweg_study.report")
    module.write = write  # type: ignore[attr-defined]  # which is what it is for
    return module


def faked() -> ExitStack:
    """A context with these instead of the real ones."""
    from thalweg_study import session  # noqa: PLC0415 - see above
    from thalweg_study.claims import CLAIMS  # noqa: PLC0415 - see above

    stack = ExitStack()
    stack.enter_context(patch.dict(CLAIMS, claims(), clear=True))
    stack.enter_context(patch.object(session, "report", report()))
    return stack


def main() -> int:
    """Run the command."""
    from thalweg_study.__main__ import main as command  # noqa: PLC0415 - only here

    # Whoever started this may ignore it, which is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with faked():
        return command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

"""The benchmark in a terminal: progress while it measures, then a table a case."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from thalweg.cli.bench.tables import HEADINGS, rows, titled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from typing_extensions import Self

    from thalweg.cli.bench.results import CaseResult

LEGEND = """
in a loop  each step after the work of a training loop: a matrix product of NumPy on all
           threads, or for torch's optimizers a forward and a backward pass of torch
repeated   step after step; caches and threads are as the last step left them
least      bytes that a step has to move for each parameter: gradient, and parameter and
bytes      state twice
step       median and shortest time of a step; in each round, all optimizers take turns
of limit   time of the same reads and writes with trivial arithmetic, divided by the time
           of the step in the same round; "best" divides the shortest times; from
           4 million elements on, measured on the arrays of the step, if possible
of 28      the same with the reads and writes of AdamW in float32, for any optimizer; with
bytes      fewer bytes it may be above 1
x thalweg  time of the step, divided by the time of thalweg AdamW in the same round
ignore     nonfinite="ignore": gradients are not checked first; the same for float64
clipped    by max_norm
bfloat16   state="bfloat16"
compact    state="compact"
split      compact, with parameters and gradients in bfloat16 and the rest in int16
AdamW8bit  moments in 8 bits, a scale for 256"""
WIDTH = 1_000
REDRAWN_SECONDS = 0.2
# The load average of a machine that is not quite idle.
BUSY = 0.5


class CaseProgress:
    """The bar of a case, a context: first preparations, then samples."""

    def __init__(self, title: str) -> None:
        # On stderr, so that `thalweg bench > tables.txt` keeps the tables alone.
        console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            # A thread that draws would take its time from the contender on the clock.
            auto_refresh=False,
            disable=not console.is_terminal,
        )
        self._task = self._bars.add_task(title, total=None, note="")
        self._drawn = monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """Name the present preparation."""
        self._bars.update(self._task, note=text)
        self._bars.refresh()

    def expect(self, samples: int) -> None:
        """Begin to count samples."""
        self._bars.update(self._task, total=samples, note="")

    def advance(self) -> None:
        """Count a sample."""
        self._bars.advance(self._task)
        if monotonic() - self._drawn > REDRAWN_SECONDS:
            self._bars.refresh()
            self._drawn = monotonic()


def print_setting(facts: Mapping[str, Any], missing: Iterable[str]) -> None:
    """Print the machine and the versions, and the packages that are missing."""
    print(f"{facts['cpu']}, {facts['cores']} cores, {facts['system']}")
    print(f"{facts['threads']} threads ({facts['threads_source']}), CPU level {facts['cpu_level']}")
    print(", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    if (load := facts["load"] or 0.0) > BUSY:
        print(
            f"load {load:.1f}: other programs are running and slow down steps with several threads"
        )
    if names := ", ".join(missing):
        print(f"not installed, so not measured: {names}")


def print_result(result: CaseResult) -> None:
    """Print the table of a case, and below it the contenders that are left out, with reasons."""
    for title, samples in titled(result).items():
        print_table(title, HEADINGS, rows(samples, result.case.elements))
    for contender in result.failed:
        verdict = result.checked[contender]
        print(f"{contender.label} failed its check and is not timed: {verdict}")
    for contender, reason in result.skipped.items():
        print(f"{contender.label} is not measured: {reason}")


def print_table(title: str, headings: Sequence[str], cells: Iterable[Sequence[str]]) -> None:
    """Print a table of names and numbers under its title."""
    # In a narrow terminal whole numbers on broken lines say more than cut ones.
    console = Console(highlight=False, width=WIDTH)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(headings[0], no_wrap=True)
    for heading in headings[1:]:
        table.add_column("\n".join(heading.rsplit(" ", 1)), justify="right", no_wrap=True)
    # Not every encoding that a pipe may have knows the letter.
    micro = "µ" if console.encoding.startswith("utf") else "u"
    for row in cells:
        table.add_row(*(cell.replace("µ", micro) for cell in row))
    print(f"\n{title}\n")
    console.print(table)

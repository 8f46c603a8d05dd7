"""Output of the programs: progress bars in a terminal, and the tables of results."""

from __future__ import annotations

from statistics import mean, median
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from formats import Run as FormatRun
    from training import Run


def bars() -> Progress:
    """A progress display on stderr; each task has a field ``note``."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )


def counting_bar(
    shown: Progress, what: str, total: int, unit: str = "documents"
) -> Callable[[int], None]:
    """Add a bar; the returned function advances it by a number of units."""
    task = shown.add_task(what, total=total, note=unit)
    return lambda count: shown.advance(task, count)


def steps_bar(shown: Progress, total: int) -> Callable[[float], None]:
    """Add a bar; the returned function advances it by a step and shows its smoothed loss."""
    task = shown.add_task("tuning", total=total, note="steps")
    average: list[float] = []

    def done(loss: float) -> None:
        average[:] = [0.95 * average[0] + 0.05 * loss if average else loss]
        shown.update(task, advance=1, note=f"steps, loss {average[0]:.2f}")

    return done


def print_results(rows: list[tuple[str, float, Run | None]]) -> None:
    """Print a row per classifier: its accuracy, size of training, and times of a step."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in (
        "accuracy",
        "parameters\ntrained",
        "steps x\nbatch",
        "forward,\nbackward",
        "optimizer\nstep",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for label, accuracy, run in rows:
        table.add_row(label, f"{accuracy:.1%}", *(_cells(run) if run else ("0", "", "", "")))
    _print(table, 90)


def print_formats(rows: Sequence[Sequence[FormatRun]]) -> None:
    """Print a row for each format: its runs' accuracies, and medians of memory and times."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("weights, state", no_wrap=True)
    for heading in (
        "accuracy of\neach seed",
        "mean",
        "last\nloss",
        "bytes a\nweight",
        "peak\nmemory",
        "forward,\nbackward",
        "optimizer\nstep",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for runs in rows:
        gradients, step = (
            median(each) for each in zip(*(run.milliseconds for run in runs), strict=True)
        )
        peaks = [run.peak for run in runs if run.peak is not None]
        table.add_row(
            runs[0].format.label,
            " ".join(f"{100 * run.accuracy:.1f}" for run in runs),
            f"{mean(run.accuracy for run in runs):.2%}",
            f"{mean(run.loss for run in runs):.3f}",
            f"{runs[0].bytes_a_weight:.2f}",
            f"{median(peaks) / 1e6:.0f} MB" if peaks else "",
            f"{gradients:.0f} ms",
            f"{step:.0f} ms",
        )
    _print(table, 104)


def _print(table: Table, width: int) -> None:
    console = Console()
    console.width = max(console.width, width)
    console.print(table)


def _cells(run: Run) -> tuple[str, ...]:
    gradients, step = run.milliseconds
    return (
        f"{run.trained:,}",
        f"{run.steps} x {run.batch}",
        f"{gradients:.2f} ms",
        f"{step:.3f} ms",
    )

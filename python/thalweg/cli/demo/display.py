"""The output of the demo in a terminal: progress during training, then a table."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from thalweg.cli.demo.network import SIZES

if TYPE_CHECKING:
    from thalweg.cli.demo.digits import Digits
    from thalweg.cli.demo.training import Plan, Run

NUMBERS = (
    "peak\nlr",
    "decay\nor l2",
    "train\nloss",
    "test\naccuracy",
    "time a\nstep",
    "share of\ntime",
)


def progress() -> Progress:
    """Return the progress display; each task has a field ``note``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
        # On stderr, so that `thalweg demo > table.txt` writes only the table.
        console=Console(stderr=True),
    )


def print_setting(digits: Digits, plan: Plan) -> None:
    """Print data, network and plan."""
    train, test = len(digits.train.labels), len(digits.test.labels)
    sizes = "-".join(map(str, SIZES))
    print(f"{train:,} handwritten digits to train on, {test} to test (one digit: {1 / test:.2%})")
    print(f"network {sizes}, {plan.epochs} epochs, batches of {plan.batch_size}, seed {plan.seed}")
    print(f"learning rate: peak * {plan.factor(digits)!r}")


def show_epoch(bars: Progress, task: TaskID, run: Run) -> None:
    """Advance the bar of a run by one epoch."""
    bars.update(task, advance=1, note=f"test accuracy {run.test_accuracies[-1]:.1%}")


def show_end(bars: Progress, task: TaskID, run: Run) -> None:
    """Leave the bar of a run where it ended."""
    bars.stop_task(task)
    if run.stop is not None:
        bars.update(task, note=str(run.stop))


def print_results(runs: list[Run]) -> None:
    """Print the table, and below it the step and the reason of each stopped run."""
    console = Console()
    # In a narrow terminal, wrapped lines are better than truncated numbers.
    console.width = max(console.width, 80)
    # The encoding of a pipe may lack the letter µ.
    microseconds = "µs" if console.encoding.startswith("utf") else "us"
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("optimizer", no_wrap=True)
    for heading in NUMBERS:
        table.add_column(heading, justify="right")
    for run in runs:
        table.add_row(*_row(run, microseconds))
    console.print(table)
    for run in runs:
        if run.stop is not None:
            tensors = ", ".join(run.stop.tensors)
            print(f"{run.recipe.label} {run.stop}: non-finite or too large gradient in {tensors}")


def _row(run: Run, microseconds: str) -> tuple[str, ...]:
    return (
        run.recipe.label,
        f"{run.recipe.lr:g}",
        f"{run.recipe.decay:g}",
        *_quality(run),
        *_time(run, microseconds),
    )


def _quality(run: Run) -> tuple[str, str]:
    if run.stop is not None:
        return str(run.stop), "-"
    return f"{run.train_losses[-1]:.3g}", f"{run.test_accuracies[-1]:.1%}"


def _time(run: Run, microseconds: str) -> tuple[str, str]:
    if not run.step_seconds:
        return "-", "-"
    updating = sum(run.step_seconds)
    share = updating / (updating + sum(run.gradient_seconds))
    return f"{median(run.step_seconds) * 1e6:.1f} {microseconds}", f"{share:.1%}"

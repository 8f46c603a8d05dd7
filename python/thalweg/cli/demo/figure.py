"""The picture of the demo: loss and accuracy by epoch, one curve per optimizer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from thalweg.cli.demo.network import SIZES
from thalweg.cli.demo.schedules import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from thalweg.cli.demo.digits import Digits
    from thalweg.cli.demo.training import Plan, Run

# The colours of Okabe and Ito, distinct for colour-blind readers, and line styles for grey prints.
STYLES = {
    "AdamW": ("#0072B2", "-"),
    "Adam + L2": ("#D55E00", "--"),
    "SGD + momentum": ("#009E73", "-."),
}
# Lower end of the accuracy axis if all runs end above it: they differ in the last percents.
CLOSE_UP = 0.9


def draw(runs: list[Run], plan: Plan, digits: Digits) -> Figure:
    """Draw training loss, test accuracy and a changing learning rate against epochs."""
    margins = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12, wspace=0.04)
    panels: list[Callable[[Axes], None]] = [
        partial(_draw_losses, runs=runs),
        partial(_draw_accuracies, runs=runs),
    ]
    if plan.schedule != DEFAULT:
        panels.append(partial(_draw_factor, plan=plan, digits=digits))
    picture = Figure(figsize=(5 * len(panels), 4.4), dpi=150, layout=margins)
    network = "-".join(map(str, SIZES))
    picture.suptitle(
        f"Handwritten digits: a {network} network, batches of {plan.batch_size}, seed {plan.seed}"
    )
    for axes, draw_panel in zip(picture.subplots(1, len(panels)), panels, strict=True):
        draw_panel(axes)
        _dress(axes, plan)
    return picture


def _draw_losses(axes: Axes, runs: list[Run]) -> None:
    axes.set_title("Training loss (cross-entropy)")
    for run in runs:
        _draw_curve(axes, run, run.train_losses, f"{run.train_losses[-1]:.3g}")
    axes.set_yscale("log")


def _draw_accuracies(axes: Axes, runs: list[Run]) -> None:
    axes.set_title("Test accuracy")
    for run in runs:
        _draw_curve(axes, run, run.test_accuracies, f"{run.test_accuracies[-1]:.1%}")
    lowest = min(run.test_accuracies[-1] for run in runs)
    axes.set_ylim(CLOSE_UP if lowest > CLOSE_UP else 0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _draw_factor(axes: Axes, plan: Plan, digits: Digits) -> None:
    axes.set_title("Learning rate, as a share of its peak")
    steps, factor = plan.steps(digits), plan.factor(digits)
    epochs = np.linspace(0, plan.epochs, steps)
    shares = [factor(step) for step in range(1, steps + 1)]
    label = f"{plan.schedule}: {steps:,} steps"
    axes.plot(epochs, shares, linewidth=1.8, color="0.2", label=label)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(0, 1.25)  # room for the legend
    axes.set_yticks(np.linspace(0, 1, 6))


def _draw_curve(axes: Axes, run: Run, values: list[float], last: str) -> None:
    label = f"{run.recipe.label}: {run.stop or last}"
    colour, style = STYLES[run.recipe.label]
    axes.plot(values, linestyle=style, linewidth=1.8, color=colour, label=label)
    axes.plot(len(values) - 1, values[-1], "x" if run.stop else "o", color=colour, clip_on=False)


def _dress(axes: Axes, plan: Plan) -> None:
    axes.set_xlabel("epoch")
    axes.set_xlim(0, plan.epochs)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(color="0.9", linewidth=0.8)
    axes.legend(handlelength=3, edgecolor="none")
    axes.spines[["top", "right"]].set_visible(False)

"""The picture of the demo: how loss and accuracy went, one curve an optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from thalweg.cli.demo.training import SIZES, Plan, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours of Okabe and Ito, which colour-blind readers tell apart, and line styles for grey prints.
STYLES = {
    "AdamW": ("#0072B2", "-"),
    "Adam + L2": ("#D55E00", "--"),
    "SGD + momentum": ("#009E73", "-."),
}
# The climb from a guess takes an epoch or two; what differs lies in the last percents.
CLOSE_UP = 0.9


def draw(runs: list[Run], plan: Plan) -> Figure:
    """Draw training loss and test accuracy against epochs, side by side."""
    margins = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12, wspace=0.04)
    picture = Figure(figsize=(10, 4.4), dpi=150, layout=margins)
    network = "-".join(map(str, SIZES))
    picture.suptitle(
        f"Handwritten digits: a {network} network, batches of {plan.batch_size}, seed {plan.seed}"
    )
    loss_axes, accuracy_axes = picture.subplots(1, 2)
    _draw_losses(loss_axes, runs)
    _draw_accuracies(accuracy_axes, runs)
    for axes in (loss_axes, accuracy_axes):
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

"""Differences to AdamW beside the learning rates that do, and validation error over them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg_study.claim import Picture
from thalweg_study.claims.optimizers.experiment import BASE
from thalweg_study.claims.optimizers.judging import LITTLE, NEAR, label_of
from thalweg_study.drawing import COLOURS, band, dress, figure, legend
from thalweg_study.wording import points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from thalweg_study.claims.optimizers.experiment import Results

TOLD, UNTOLD = "black", "0.55"
COLUMNS = 5


def draw(results: Results) -> tuple[Picture, ...]:
    """Draw all pictures."""
    return _comparison(results), _rates(results)


def _comparison(results: Results) -> Picture:
    picture = figure(9, 4.8)
    left, right = picture.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
    _differences(left, results)
    _near(right, results)
    count = len(results.errors[BASE])
    figures = "; ".join(
        f"{label_of(method)} {100 * results.errors[method].mean():.2f}"
        + ("" if method == BASE else f", {points(results.more(method))}")
        for method in results.order
    )
    return Picture(
        "optimizers",
        picture,
        f"Every rule with its best setting on the same grid, over {count} seeds that tuned "
        "nothing; beside its name the mean test error. Left, the mean difference to AdamW in pairs "
        "of seeds; the bars are intervals that hold together with 95 % confidence, grey where they "
        f"contain 0, and up to {100 * LITTLE:g} points are shaded. Right, at the best decay, the "
        "best learning rate and the others around it whose validation error is within "
        f"{100 * NEAR:g} point of its; small dots are all that were tried.",
        "Mean test errors in percent, and how much more than AdamW's in percentage points: "
        f"{figures}.",
    )


def _differences(axes: Axes, results: Results) -> None:
    dress(axes)
    axes.axvspan(-100 * LITTLE, 100 * LITTLE, color="0.93", linewidth=0, zorder=0)
    axes.axvline(0, color=COLOURS[BASE], linewidth=1.4)
    order = results.order
    for row, method in enumerate(order):
        if method == BASE:
            axes.plot(0, row, "o", color=COLOURS[BASE], markersize=8)
            continue
        at = results.more(method).scaled(100)
        colour = UNTOLD if at.contains(0) else TOLD
        axes.plot([at.low, at.high], [row, row], color=colour, linewidth=2.5)
        axes.plot(at.estimate, row, "o", color=colour, markersize=8)
    labels = [f"{label_of(name)}   {100 * results.errors[name].mean():.2f} %" for name in order]
    axes.set_yticks(range(len(order)), labels)
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlabel("points more test error than AdamW")


def _near(axes: Axes, results: Results) -> None:
    dress(axes)
    for row, method in enumerate(results.order):
        of = results.maps[method]
        colour = COLOURS[BASE] if method == BASE else TOLD
        axes.plot(of.grid.lrs, [row] * len(of.grid.lrs), ".", color="0.75", markersize=4)
        axes.plot(results.near(method, NEAR), [row, row], color=colour, linewidth=2.5)
        axes.plot(of.tuned()[0], row, "o", color=colour, markersize=8)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.tick_params(axis="y", left=False, labelleft=False)
    axes.set_xlabel(f"learning rates within {100 * NEAR:g} point of the best")


def _rates(results: Results) -> Picture:
    """Draw validation error over the learning rate, each rule's in a panel of its own."""
    others = [method for method in results.order if method != BASE]
    rows = -(-len(others) // COLUMNS)
    picture = figure(9, 0.8 + 2.1 * rows)
    panels = picture.subplots(rows, COLUMNS, sharex=True, sharey=True)
    for axes, method in zip(panels.flat, others, strict=True):
        dress(axes)
        for name in (BASE, method):
            band(
                axes,
                results.maps[name].grid.lrs,
                100 * results.over_rates(name).T,
                label="AdamW" if name == BASE else "the rule of the panel",
                colour=COLOURS[BASE] if name == BASE else TOLD,
                style="--" if name == BASE else "-",
            )
        axes.set_title(label_of(method), fontsize=10)
        axes.set(xscale="log", yscale="log")
    lowest = min(100 * results.over_rates(name).mean(axis=-1).min() for name in results.maps)
    ticks = [tick for tick in (2, 5, 10, 20, 50) if tick > 0.7 * lowest]
    panels.flat[0].set_ylim(0.85 * lowest, 100)
    panels.flat[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    for axes in panels.flat:
        axes.minorticks_off()
    for axes in panels[-1]:
        axes.set_xlabel("learning rate")
    for axes in panels[:, 0]:
        axes.set_ylabel("validation error, %")
    legend(picture)
    told = ", ".join(
        f"{label_of(method)} {{:g}} to {{:g}}".format(*results.near(method, NEAR))
        for method in results.order
    )
    return Picture(
        "optimizers-rates",
        picture,
        "Validation error over the learning rate, each rule at its best decay, with intervals of "
        f"95 % over the {len(results.maps[BASE].seeds)} seeds that tune; AdamW's is in every "
        "panel, dashed.",
        f"Curves over the learning rate. Within {100 * NEAR:g} point of the best: {told}.",
    )

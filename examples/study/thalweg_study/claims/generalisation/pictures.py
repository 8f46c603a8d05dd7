"""Test errors seed by seed, and test error over training loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import NullFormatter, PercentFormatter

from thalweg_study.claim import Picture
from thalweg_study.claims.generalisation.experiment import error_at_loss
from thalweg_study.drawing import COLOURS, MARKERS, STYLES, band, dress, figure, legend
from thalweg_study.methods import METHODS
from thalweg_study.statistics import mean_interval
from thalweg_study.wording import NETWORKS, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from thalweg_study.claims.generalisation.experiment import Runs
    from thalweg_study.grids import Map

LEVELS = 60
"""Training losses at which curves are drawn."""


def draw(runs: Runs) -> tuple[Picture, ...]:
    """Draw all pictures of a model."""
    return _errors(runs), _at_equal_loss(runs)


def _errors(runs: Runs) -> Picture:
    """Draw the test error of every seed, and the paired differences to AdamW."""
    picture = figure(9, 4)
    left, right = picture.subplots(1, 2, width_ratios=(1, 1))
    _seeds(left, runs)
    _differences(right, runs)
    figures = "; ".join(
        f"{METHODS[method].label} {mean_interval(runs.test_errors(method)).scaled(100):.2f}"
        for method in runs.records
    )
    count = len(runs.records["adamw"])
    return Picture(
        f"generalisation-{runs.model}",
        picture,
        f"The {NETWORKS[runs.model]}: test error of the best setting of a method. Left, each of "
        f"{count} seeds, joined by grey lines, and the mean. Right, the mean difference to AdamW "
        f"in pairs of seeds; the bar is the interval of 95 %. Percent: {figures}.",
        f"Test errors of {count} seeds for each method, in percent: {figures}.",
    )


def _at_equal_loss(runs: Runs) -> Picture:
    """Draw test error over training loss: along the best runs, and at the end of all runs."""
    picture = figure(9, 4.2)
    left, right = picture.subplots(1, 2, sharey=True)
    _along(left, runs)
    _ends(right, runs)
    for axes in (left, right):
        dress(axes)
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("training loss (cross-entropy), falling to the right")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.invert_xaxis()
    best = min(float(runs.test_errors(method).mean()) for method in runs.records)
    left.set_ylim(0.8 * best, 4 * best)
    left.set_ylabel("test error")
    legend(picture)
    difference = runs.difference_at_equal_loss("adam", "adamw")
    told = f"on the way {points(runs.difference_on_the_way('adam', 'adamw'))}, at the end " + (
        "not known, since no runs end so" if difference is None else points(difference)
    )
    return Picture(
        f"generalisation-equal-loss-{runs.model}",
        picture,
        f"The {NETWORKS[runs.model]}: test error over training loss. Left, along the runs of the "
        "best settings, means with intervals of 95 %; where a run ends, its learning rate is zero, "
        "and that of the others is not yet. Right, all settings of the grid at the end of their "
        "runs, means over seeds. Test error of Adam + L2 minus that of AdamW at equal training "
        f"loss, in percentage points: {told}.",
        "Test error over training loss for each method. Adam + L2 minus AdamW at equal training "
        f"loss, in percentage points: {told}.",
    )


def _seeds(axes: Axes, runs: Runs) -> None:
    dress(axes)
    table = np.array([100 * runs.test_errors(method) for method in runs.records])
    places = np.arange(len(table))
    axes.plot(places, table, color="0.85", linewidth=0.8, zorder=1)
    for place, method in enumerate(runs.records):
        spots = np.full(len(table[place]), place)
        axes.plot(spots, table[place], MARKERS[method], color=COLOURS[method], alpha=0.5)
        axes.plot([place - 0.25, place + 0.25], [table[place].mean()] * 2, color="black")
    axes.set_xticks(places, [METHODS[method].label for method in runs.records])
    axes.set_ylabel("test error (%)")


def _differences(axes: Axes, runs: Runs) -> None:
    dress(axes)
    others = [method for method in runs.records if method != "adamw"]
    axes.axvline(0, color="black", linewidth=0.8)
    for row, method in enumerate(others):
        at = runs.difference(method, "adamw").scaled(100)
        axes.plot([at.low, at.high], [row, row], color=COLOURS[method], linewidth=2.5)
        axes.plot(at.estimate, row, MARKERS[method], color=COLOURS[method], markersize=9)
    axes.set_yticks(range(len(others)), [METHODS[method].label for method in others])
    axes.set_ylim(len(others) - 0.5, -0.5)
    axes.set_xlabel("points more test error than AdamW")


def _along(axes: Axes, runs: Runs) -> None:
    axes.set_title("along the best runs")
    for method, records in runs.records.items():
        highest = min(record["curves"]["train_loss"][0] for record in records)
        lowest = max(min(record["curves"]["train_loss"]) for record in records)
        levels = np.geomspace(highest, lowest, LEVELS)
        band(
            axes,
            levels.tolist(),
            [[error_at_loss(record, level) for level in levels] for record in records],
            label=METHODS[method].label,
            colour=COLOURS[method],
            style=STYLES[method],
        )


def _ends(axes: Axes, runs: Runs) -> None:
    axes.set_title("at the end, all settings of the grid")
    for method, of in runs.maps.items():
        losses, errors = _means(of)
        axes.plot(losses, errors, MARKERS[method], color=COLOURS[method], alpha=0.6, markersize=4)


def _means(of: Map) -> tuple[list[float], list[float]]:
    return (
        of.train_loss.mean(axis=-1).ravel().tolist(),
        of.test.mean(axis=-1).ravel().tolist(),
    )

"""How all pictures of the study look; `heat_map` has what only heat maps need.

Nothing global is set: figures are made by `figure`, and what is drawn on them states its looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from thalweg_study.statistics import mean_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from thalweg_study.statistics import Interval

Style: TypeAlias = str | tuple[float, tuple[float, ...]]
"""Of a line, as matplotlib has it."""

COLOURS = {
    "sgd": "#E69F00",
    "sgdw": "#D55E00",
    "sgdw-independent": "#882255",
    "adam": "#56B4E9",
    "adamw": "#0072B2",
    "adamw-independent": "#009E73",
    "amsgrad": "#CC79A7",
}
"""Of methods; they can be told apart by readers who do not see all colours."""

L2, DECOUPLED, INDEPENDENT = (0, (5, 1.8)), "-", (0, (6, 1.5, 1.2, 1.5))

STYLES: dict[str, Style] = {
    "sgd": L2,
    "sgdw": DECOUPLED,
    "sgdw-independent": INDEPENDENT,
    "adam": L2,
    "adamw": DECOUPLED,
    "adamw-independent": INDEPENDENT,
    "amsgrad": (0, (1.2, 1.2)),
}
"""Of the lines of methods: each kind of decay has its own."""

MARKERS = {
    "sgd": "s",
    "sgdw": "D",
    "sgdw-independent": "P",
    "adam": "v",
    "adamw": "o",
    "adamw-independent": "^",
    "amsgrad": "X",
}
"""On the lines of methods, which they tell apart without colours."""

INK = "0.25"
"""Of the frame of data: axes, ticks and their labels."""


def figure(width: float, height: float) -> Figure:
    """Return an empty picture of a size in inches; 9 is the width of the page."""
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))


def dress(axes: Axes) -> None:
    """Put a light grid behind, and leave out what frames nothing."""
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(INK)
    axes.tick_params(which="both", color=INK, labelcolor=INK)


def band(
    axes: Axes,
    x: Sequence[float],
    values: ArrayLike,
    *,
    label: str,
    colour: str,
    style: Style = "-",
    marker: str = "",
) -> None:
    """Draw the mean over the first axis, the seeds, and its interval of 95 % as a band.

    A single seed has no interval and gets no band. Markers have some room between them.
    """
    intervals = [mean_interval(column) for column in np.asarray(values).T]
    axes.plot(
        x,
        [i.estimate for i in intervals],
        color=colour,
        linestyle=style,
        linewidth=1.8,
        marker=marker,
        markersize=6,
        markevery=0.12,
        markeredgecolor="white",
        markeredgewidth=0.7,
        label=label,
    )
    if len(np.asarray(values)) > 1:
        axes.fill_between(
            x,
            [i.low for i in intervals],
            [i.high for i in intervals],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )


def reach(intervals: Sequence[Interval]) -> list[list[float]]:
    """Return how far intervals reach below and above their estimates, as ``errorbar`` takes it."""
    return [
        [interval.estimate - interval.low for interval in intervals],
        [interval.high - interval.estimate for interval in intervals],
    ]


def legend(picture: Figure, columns: int = 4) -> None:
    """Say below the picture what the labels of all its axes mean, each once."""
    meanings: dict[str, Artist] = {}
    for axes in picture.axes:
        for handle, meaning in zip(*axes.get_legend_handles_labels(), strict=True):
            meanings.setdefault(meaning, handle)
    picture.legend(
        list(meanings.values()),
        list(meanings),
        loc="outside lower center",
        ncols=min(columns, max(len(meanings), 1)),
        handlelength=3.2,
        columnspacing=1.8,
        frameon=False,
    )

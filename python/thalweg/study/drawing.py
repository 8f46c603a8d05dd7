"""How all pictures of the study look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from thalweg.study.statistics import mean_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

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


def figure(width: float, height: float) -> Figure:
    """Return an empty picture of a size in inches; 9 is the width of the page."""
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))


def dress(axes: Axes) -> None:
    """Put a light grid behind, and leave out what frames nothing."""
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def band(
    axes: Axes, x: Sequence[float], values: ArrayLike, *, label: str, colour: str, style: str = "-"
) -> None:
    """Draw the mean over the first axis, the seeds, and its interval of 95 % as a band."""
    intervals = [mean_interval(column) for column in np.asarray(values).T]
    axes.plot(x, [i.estimate for i in intervals], style, color=colour, linewidth=1.8, label=label)
    axes.fill_between(
        x,
        [i.low for i in intervals],
        [i.high for i in intervals],
        color=colour,
        alpha=0.15,
        linewidth=0,
    )

"""Heat maps: test error over learning rate and decay, as in figure 2 of the paper.

Cells have one size, whatever the steps of the grids are, and there can be a column for no decay at
all. So the coordinates are indices of rows and columns; `along` finds the place of any value.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy.interpolate import make_interp_spline

from thalweg_study.drawing import INK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    from thalweg_study.statistics import Floats

COLOURS = "viridis_r"
"""Bright is good; equal steps of error look equal, in grey and to colour-blind readers too."""

FAILED = 0.5
"""A mean error, as a share, beyond which nothing was learnt that counts."""

HATCHED: dict[str, Any] = {
    "facecolor": "0.94",
    "edgecolor": "0.6",
    "hatch": "////",
    "linewidth": 0,
}
EXTENDED = {
    (False, False): "neither",
    (True, False): "min",
    (False, True): "max",
    (True, True): "both",
}
"""Which ends of the bar are pointed: whether there are values below and above."""

MOST_LABELS = {"short": 7, "long": 3}
"""On an axis; more would touch each other where four maps stand side by side."""


def draw(
    axes: Axes,
    errors: ArrayLike,
    lrs: Sequence[float],
    decays: Sequence[float],
    *,
    shown: tuple[float, float],
    best: tuple[int, int] | None = None,
) -> QuadMesh:
    """Draw one map, the learning rate upwards, the decay to the right.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw; titles and labels of the axes are the caller's.
    errors : array_like
        Percent, a row for each learning rate, a column for each decay. NaN where
        runs failed; such cells are hatched.
    lrs, decays : sequence of float
        Both rising; the first decay may be 0.
    shown : tuple of float
        Errors where the colours begin and end; take the same for maps that are compared.
    best : tuple of int or None
        Row and column that get a star.

    Returns
    -------
    matplotlib.collections.QuadMesh
        The cells, for `colour_bar`.
    """
    cells = np.ma.masked_invalid(np.asarray(errors, np.float64))
    mesh = axes.pcolormesh(
        np.arange(len(decays) + 1) - 0.5,
        np.arange(len(lrs) + 1) - 0.5,
        cells,
        cmap=COLOURS,
        norm=Normalize(*shown),
        edgecolors="white",
        linewidth=0.8,
    )
    if np.ma.is_masked(cells):
        axes.patch.set(**HATCHED)
        axes.add_patch(Rectangle((0, 0), 0, 0, label=f"error above {FAILED:.0%}", **HATCHED))
    axes.set_xlim(-0.5, len(decays) - 0.5)
    axes.set_ylim(-0.5, len(lrs) - 0.5)
    axes.set_xticks(*_ticks(decays))
    axes.set_yticks(*_ticks(lrs))
    axes.tick_params(color=INK, labelcolor=INK, length=3)
    axes.spines[:].set_visible(False)
    if best is not None:
        row, column = best
        axes.plot(column, row, "*", **_outlined(17), zorder=4, label="best of all")
    return mesh


def along(grid: Sequence[float], values: ArrayLike) -> Floats:
    """Return where values lie on the axis of a grid, in the coordinates of `draw`.

    Between the values of the grid, and beyond its ends, places follow the logarithm; 0 lies in the
    column of 0. The grid must have two values above 0.
    """
    known = np.flatnonzero(np.asarray(grid) > 0)
    place = make_interp_spline(np.log10(np.asarray(grid)[known]), known, k=1)
    wanted = np.asarray(values, np.float64)
    positive = wanted > 0
    places: NDArray[np.float64] = place(np.log10(np.where(positive, wanted, 1.0)))
    return np.where(positive | np.isnan(wanted), places + 0 * wanted, 0.0)


def ridge(
    axes: Axes,
    lrs: Sequence[float],
    decays: Sequence[float],
    best: ArrayLike,
    *,
    slope: float | None = None,
    intercept: float = 0.0,
) -> None:
    """Draw on a map the best decay of each row as dots, and a line that was fitted to them.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        What `draw` drew on.
    lrs, decays : sequence of float
        As they were given to `draw`.
    best : array_like
        A decay for each learning rate, which need not be on the grid; NaN for none.
    slope, intercept : float
        The line ``log10(decay) = intercept + slope·log10(lr)``, if there is a slope.
    """
    axes.plot(
        along(decays, best),
        np.arange(len(lrs)),
        "o",
        **_outlined(6),
        zorder=3,
        label="best decay of each learning rate",
    )
    if slope is not None:
        rates = np.geomspace(lrs[0], lrs[-1], 101)
        places = along(decays, 10 ** (intercept + slope * np.log10(rates)))
        # Below the smallest decay that has a logarithm there is no place for the line.
        places[places < np.flatnonzero(np.asarray(decays) > 0)[0] - 0.5] = np.nan
        outline = withStroke(linewidth=4, foreground="black")
        axes.plot(
            places,
            along(lrs, rates),
            color="white",
            linewidth=2,
            path_effects=[outline],
            label="line through them",
        )


def colour_bar(picture: Figure, meshes: Sequence[QuadMesh], label: str = "test error (%)") -> None:
    """Put one bar beside all maps of one range of colours, which says where the range cuts off."""
    low, high = np.array(meshes[0].get_clim(), np.float64)
    values = np.concatenate([np.ma.asarray(mesh.get_array()).compressed() for mesh in meshes])
    under, over = bool((values < low).any()), bool((values > high).any())
    bar = picture.colorbar(
        meshes[0],
        ax=[axes for axes in picture.axes if any(mesh.axes is axes for mesh in meshes)],
        extend=EXTENDED[under, over],
        label=label,
        aspect=30,
        pad=0.02,
    )
    inner = [
        tick
        for tick in MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(low, high)
        if _apart(tick, low, high)
    ]
    ticks = [low, *inner, high]
    labels = [f"{tick:g}" for tick in ticks]
    labels[0] = f"≤ {labels[0]}" if under else labels[0]
    labels[-1] = f"≥ {labels[-1]}" if over else labels[-1]
    bar.set_ticks(ticks, labels=labels)
    bar.ax.tick_params(color=INK, labelcolor=INK)
    bar.outline.set_visible(False)


def _outlined(size: float) -> dict[str, Any]:
    """Return a marker that can be seen on any colour."""
    return {
        "markersize": size,
        "markerfacecolor": "white",
        "markeredgecolor": "black",
        "markeredgewidth": 1.1,
    }


def _apart(tick: float, low: float, high: float) -> bool:
    """Whether a tick leaves room for the labels of both ends."""
    room = (high - low) / 12
    return low + room < tick < high - room


def _ticks(grid: Sequence[float]) -> tuple[list[int], list[str]]:
    """Choose cells to label, with room between them: powers where there are some, and zero."""
    zero = [i for i, value in enumerate(grid) if value == 0]
    positive = [i for i, value in enumerate(grid) if value > 0]
    for base in (10, 2):
        powers = [i for i in positive if _is_power(grid[i], base)]
        if len(powers) > 1:
            room = len(grid) / MOST_LABELS["short"]
            chosen = _spaced(zero, powers, room)
            return chosen, [_label(grid[i], base) for i in chosen]
    chosen = _spaced(zero, positive, len(grid) / MOST_LABELS["long"])
    return chosen, [f"{grid[i]:.2g}" for i in chosen]


def _spaced(zero: list[int], others: list[int], room: float) -> list[int]:
    """Choose from rising indices those that keep a distance; that of zero is a narrow label."""
    chosen = zero.copy()
    for i in others:
        if not chosen or i - chosen[-1] >= (0.66 * room if chosen == zero else room):
            chosen.append(i)
    return chosen


def _is_power(value: float, base: int) -> bool:
    return math.isclose(value, base ** round(math.log(value, base)), rel_tol=0.01)


def _label(value: float, base: int) -> str:
    exponent = round(math.log(value, base)) if value else 0
    return f"${base}^{{{exponent}}}$" if exponent else f"{value:.0f}"

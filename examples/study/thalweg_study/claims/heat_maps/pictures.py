"""The maps, the pair that tells most, and the slopes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thalweg_study import heat_map
from thalweg_study.claim import Picture
from thalweg_study.drawing import COLOURS, INK, MARKERS, dress, figure, legend
from thalweg_study.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

    from thalweg_study.basins import Basin
    from thalweg_study.grids import Map

ROWS = (
    ("sgd", "sgdw", "sgdw-independent"),
    ("adam", "adamw", "adamw-independent"),
)
"""Penalty, decoupled decay as torch and optax have it, and as the paper has it."""

PAIR = ("adam", "adamw")

CONTRAST = 1.6
"""End of the colours, in units of the best error."""


def draw(maps: Mapping[str, Map], basins: Mapping[str, Basin]) -> tuple[Picture, ...]:
    """Draw all pictures."""
    return _all_maps(maps, basins), _pair(maps, basins), _slopes(basins)


def _all_maps(maps: Mapping[str, Map], basins: Mapping[str, Basin]) -> Picture:
    """Draw the maps of all methods, families in rows."""
    picture = figure(11, 7.4)
    shown = _range(maps)
    axes = picture.subplots(len(ROWS), len(ROWS[0]), squeeze=False)
    meshes = [
        _draw_map(axes[row][column], method, maps[method], basins[method], shown)
        for row, methods in enumerate(ROWS)
        for column, method in enumerate(methods)
    ]
    for row in axes:
        row[0].set_ylabel("learning rate")
    heat_map.colour_bar(picture, meshes)
    legend(picture, 3)
    return Picture(
        "heat-maps",
        picture,
        "Mean test error over learning rate and decay. The star is the best pair by validation "
        "error; dots are the best decay of each learning rate that counts, the line is fitted to "
        "them. Below each map is the term that its decay is a factor of. Slopes of the best decay "
        f"over the learning rate: {_told(basins)}.",
        f"Six heat maps in two rows, SGD and Adam. {_places(maps)}",
    )


def _pair(maps: Mapping[str, Map], basins: Mapping[str, Basin]) -> Picture:
    """Draw Adam with the penalty beside AdamW."""
    picture = figure(9, 4.4)
    chosen = {method: maps[method] for method in PAIR}
    shown = _range(chosen)
    axes = picture.subplots(1, len(PAIR))
    meshes = [
        _draw_map(each, method, maps[method], basins[method], shown)
        for each, method in zip(axes, PAIR, strict=True)
    ]
    axes[0].set_ylabel("learning rate")
    heat_map.colour_bar(picture, meshes)
    legend(picture, 3)
    return Picture(
        "heat-maps-pair",
        picture,
        f"Adam + L2 and AdamW by themselves, in colours of their own range. {_places(chosen)}",
        f"Two heat maps of test error over learning rate and decay. {_places(chosen)}",
    )


def _slopes(basins: Mapping[str, Basin]) -> Picture:
    """Draw the slopes with their intervals."""
    picture = figure(9, 3.4)
    axes = picture.subplots()
    dress(axes)
    axes.axvspan(-0.5, 0.5, color="0.93", zorder=0)
    for place, meaning in ((-1, "product counts"), (0, "decay alone counts"), (1, "ratio counts")):
        axes.axvline(place, color=INK, linewidth=0.8, linestyle=":")
        axes.text(place, -0.7, meaning, ha="center", va="bottom", color=INK)
    for row, (method, basin) in enumerate(basins.items()):
        if basin.slope is None:
            axes.text(0, row, "too few learning rates count", ha="center", va="center")
            continue
        at = basin.slope
        axes.plot([at.low, at.high], [row, row], color=COLOURS[method], linewidth=2.5)
        axes.plot(at.estimate, row, MARKERS[method], color=COLOURS[method], markersize=9)
    axes.set_yticks(range(len(basins)), [METHODS[method].label for method in basins])
    axes.set_ylim(len(basins) - 0.5, -1.3)
    axes.set_xlim(-1.6, 1.6)
    axes.set_xlabel("how the best decay moves with the learning rate: slope on logarithmic axes")
    return Picture(
        "heat-maps-slopes",
        picture,
        "How the best decay moves with the learning rate, with intervals of 95 %. An interval "
        "inside the grey band says that the basin lies along the axes, one outside of it that it "
        f"lies diagonally. {_told(basins)}.",
        f"Slopes with intervals, one a method: {_told(basins)}.",
    )


def _draw_map(
    axes: Axes, method: str, of: Map, basin: Basin, shown: tuple[float, float]
) -> QuadMesh:
    grid = of.grid
    errors = of.test.mean(axis=-1)
    mesh = heat_map.draw(
        axes,
        np.where(errors > heat_map.FAILED, np.nan, 100 * errors),
        grid.lrs,
        grid.decays,
        shown=shown,
        best=of.best(),
    )
    best = dict(zip(np.round(np.log10(basin.lrs), 6), basin.decays, strict=True))
    heat_map.ridge(
        axes,
        grid.lrs,
        grid.decays,
        [best.get(rate, np.nan) for rate in np.round(np.log10(grid.lrs), 6)],
        slope=None if basin.slope is None else basin.slope.estimate,
        intercept=_intercept(basin),
    )
    axes.set_title(METHODS[method].label)
    axes.set_xlabel(METHODS[method].decay)
    return mesh


def _intercept(basin: Basin) -> float:
    """Return that of the line through the mean of the best decays."""
    if basin.slope is None:
        return 0.0
    lrs, decays = np.log10(basin.lrs), np.log10(basin.decays)
    return float(decays.mean() - basin.slope.estimate * lrs.mean())


def _range(maps: Mapping[str, Map]) -> tuple[float, float]:
    """Return where colours begin and end, in percent."""
    best = min(float(of.test.mean(axis=-1).min()) for of in maps.values())
    return round(100 * best, 1), round(100 * CONTRAST * best, 1)


def _told(basins: Mapping[str, Basin]) -> str:
    return "; ".join(
        f"{METHODS[method].label} " + ("none" if basin.slope is None else f"{basin.slope:.2f}")
        for method, basin in basins.items()
    )


def _places(maps: Mapping[str, Map]) -> str:
    return " ".join(
        f"{METHODS[method].label} is best with learning rate {of.tuned()[0]:g} and decay "
        f"{of.tuned()[1]:g}: {100 * float(of.test[of.best()].mean()):.2f} % test error."
        for method, of in maps.items()
    )

"""Pictures say what they leave out, and things are where their values are."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from thalweg_study import drawing, heat_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LRS, DECAYS = (1e-3, 3e-3, 1e-2), (0, 1e-4, 1e-3, 1e-2)
ERRORS = np.arange(12.0).reshape(3, 4)


def heat(errors: np.ndarray, shown: tuple[float, float]) -> Figure:
    figure = drawing.figure(4.5, 3)
    axes = figure.subplots()
    mesh = heat_map.draw(axes, errors, LRS, DECAYS, shown=shown, best=(0, 1))
    heat_map.ridge(axes, LRS, DECAYS, (1e-3, np.nan, 2e-4), slope=-1, intercept=-6)
    heat_map.colour_bar(figure, [mesh])
    drawing.legend(figure)
    figure.draw_without_rendering()
    return figure


def meanings(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_cells_are_found_by_the_logarithm_and_zero_in_its_column() -> None:
    grid = (0, 1e-3, 1e-2, 1)
    places = heat_map.along(grid, (0, 1e-4, 1e-3, 10**-2.5, 0.1, 1, 100, np.nan))
    np.testing.assert_allclose(places, (0, 0, 1, 1.5, 2.5, 3, 4, np.nan), atol=1e-12)


@pytest.mark.parametrize(
    ("shown", "ends"),
    [((2, 8), ("≤ 2", "≥ 8")), ((0, 8), ("0", "≥ 8")), ((0, 20), ("0", "20"))],
)
def test_a_bar_of_colours_says_where_it_is_cut_off(
    shown: tuple[float, float], ends: tuple[str, str]
) -> None:
    labels = [label.get_text() for label in heat(ERRORS, shown).axes[-1].get_yticklabels()]
    assert (labels[0], labels[-1]) == ends


def test_a_heat_map_tells_cells_that_failed() -> None:
    assert "error above 50%" not in meanings(heat(ERRORS, (0, 8)))
    failed = np.where(ERRORS == 11, np.nan, ERRORS)
    assert "error above 50%" in meanings(heat(failed, (0, 8)))


def test_the_axes_of_a_heat_map_name_some_of_its_values() -> None:
    axes = heat(ERRORS, (0, 8)).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "0",
        "$10^{-4}$",
        "$10^{-3}$",
        "$10^{-2}$",
    ]
    np.testing.assert_array_equal(axes.get_yticks(), (0, 2))


@pytest.mark.parametrize(
    "grid",
    [
        [0, *np.geomspace(1e-5, 1e-2, 13)],
        [0, *np.geomspace(2.0**-12, 0.25, 11)],
        [0, *np.ravel(np.outer((1e-4, 1e-3, 1e-2, 1e-1), (1, 3)))],
        list(np.geomspace(2.5e-5, 6.4e-3, 9)),
    ],
    ids=["four a decade", "powers of two", "zero, ones and threes", "others"],
)
def test_labels_keep_apart_with_four_maps_side_by_side(grid: list[float]) -> None:
    figure = drawing.figure(9, 3)
    for axes in figure.subplots(1, 4, sharey=True):
        heat_map.draw(axes, np.ones((3, len(grid))), LRS, grid, shown=(0, 2))
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert len(boxes) >= 3
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_a_single_seed_has_a_curve_and_no_band() -> None:
    axes = drawing.figure(4.5, 3).subplots()
    drawing.band(axes, (1, 2), [[3, 4]], label="one", colour="black")
    assert len(axes.lines) == 1
    assert len(axes.collections) == 0
    drawing.band(axes, (1, 2), [[3, 4], [4, 5]], label="two", colour="black")
    assert len(axes.collections) == 1


def test_methods_can_be_told_apart_without_colours() -> None:
    assert drawing.COLOURS.keys() == drawing.STYLES.keys() == drawing.MARKERS.keys()
    assert len(set(drawing.MARKERS.values())) == len(drawing.MARKERS)


def test_a_legend_says_once_what_several_axes_show() -> None:
    figure = drawing.figure(9, 3)
    for axes in figure.subplots(1, 2):
        axes.plot([1, 2], label="same")
    drawing.legend(figure)
    assert meanings(figure) == ["same"]

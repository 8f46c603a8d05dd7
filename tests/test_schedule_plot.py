"""`schedule.plot`: its lines, labels and axes, its file, and its error without matplotlib."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from matplotlib.figure import Figure

from schedules import EXAMPLES, KINDS
from thalweg.schedule import cosine, exponential, linear, plot

if TYPE_CHECKING:
    from thalweg.schedule import Schedule

DOCS = Path(__file__).parent.parent / "docs"


def labels(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("s", EXAMPLES, ids=repr)
def test_every_schedule_can_be_drawn(s: Schedule) -> None:
    axes = plot(s, steps=30)
    (line,) = axes.get_lines()
    x, y = line.get_data()
    assert list(x) == [*range(1, 31)]
    assert list(y) == [s(step) for step in range(1, 31)]
    assert labels(axes) == [repr(s)]
    axes.figure.canvas.draw()


def test_many_steps_are_sampled_from_first_to_last() -> None:
    (line,) = plot(cosine(10**12), steps=10**12).get_lines()
    x = list(line.get_xdata())
    assert (x[0], x[-1]) == (1, 10**12)
    assert len(x) <= 2000


def test_plot_draws_on_given_axes_and_saves(tmp_path: Path) -> None:
    axes = Figure().subplots(2)[1]
    path = tmp_path / "both.png"
    drawn = plot(linear(9), lambda step: 1 / step, steps=9, labels=["a", "b"], path=path, axes=axes)
    assert drawn is axes
    assert labels(axes) == ["a", "b"]
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_axis_is_logarithmic_if_most_values_would_lie_at_the_bottom() -> None:
    assert plot(exponential(0.9), steps=200).get_yscale() == "log"
    for s in (exponential(0.99), cosine(100), linear(100, peak=-1), 0 * cosine(100)):
        assert plot(s, steps=200).get_yscale() == "linear"


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one entry per schedule \(1\), got 2"):
        plot(linear(9), steps=9, labels=["a", "b"])
    with pytest.raises(ValueError, match="steps must be a whole number from 1"):
        plot(linear(9), steps=0)
    with (
        patch.dict("sys.modules", {"matplotlib.figure": None}),
        pytest.raises(ImportError, match=r"pip install 'thalweg\[demo\]'"),
    ):
        plot(linear(9), steps=9)


def test_the_page_has_a_picture_of_every_schedule() -> None:
    page = (DOCS / "schedules.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\]\(schedules/(\w+)\.png\)", page))
    assert shown == {path.stem for path in (DOCS / "schedules").glob("*.png")}
    assert shown == KINDS - {"zero_based"} | {"arithmetic"}

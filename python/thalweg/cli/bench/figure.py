"""The picture: how near a large step comes to the memory limit, and how long smaller ones take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from thalweg.cli.bench.contenders import BASELINE, CONTENDERS
from thalweg.cli.bench.limit import FLOAT32_ADAMW
from thalweg.cli.bench.tables import unit_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from thalweg.cli.bench.results import CaseResult

# Colours of Okabe and Ito, which colour-blind readers tell apart, and markers for grey prints. All
# of these compute AdamW in float32, so that their times can be compared.
STYLES = {
    BASELINE: ("#0072B2", "o"),
    "thalweg-torch": ("#004B73", "*"),
    "torch-fused": ("#D55E00", "s"),
    "torch-loop": ("#E69F00", "D"),
    "deepspeed": ("#F0E442", "p"),
    "optax": ("#CC79A7", "^"),
    "thinc": ("#009E73", "v"),
    "numpy": ("#56B4E9", "P"),
    "reference": ("#7F7F7F", "X"),
}
OTHER = ("#999933", "")
LIMIT: dict[str, Any] = {"color": "black", "linewidth": 1.2, "linestyle": "--"}


def draw(results: list[CaseResult], facts: Mapping[str, Any]) -> Figure:
    """Draw bars for the large tensor and dots for the other cases, as far as they were measured."""
    measured = [result for result in results if result.loop.series]
    large = [result for result in measured if result.case.name == "large"]
    smaller = [result for result in measured if result.case.name != "large" and _times(result)]
    panels = [panel for panel in ((_draw_shares, large), (_draw_times, smaller)) if panel[1]]
    margins = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12, wspace=0.06)
    bars = max((len(result.loop.series) for result in large), default=0)
    size = (1 + 6 * len(panels), max(5.6, 1 + 0.3 * bars))
    picture = Figure(figsize=size, dpi=150, layout=margins)
    picture.suptitle(f"{facts['cpu']}, {facts['threads']} threads, CPU level {facts['cpu_level']}")
    for position, (draw_panel, shown) in enumerate(panels, 1):
        axes = picture.add_subplot(1, len(panels), position)
        draw_panel(axes, shown)
        _dress(axes)
    if smaller:
        picture.legend(loc="outside lower center", ncols=4, edgecolor="none")
    return picture


def _draw_shares(axes: Axes, results: list[CaseResult]) -> None:
    (result,) = results
    shares = {contender: result.loop.of_limit(contender) for contender in result.loop.series}
    colours = [
        STYLES.get(contender.name, STYLES[BASELINE] if contender.ours else OTHER)[0]
        for contender in shares
    ]
    bars = axes.barh(range(len(shares)), list(shares.values()), color=colours, height=0.72)
    axes.axvline(1, **LIMIT)
    # The white behind a number keeps the line of the limit out of it.
    background = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    axes.bar_label(bars, [f"{share:.0%}" for share in shares.values()], padding=4, bbox=background)
    axes.set_title(f"Speed in a training loop, {result.case.title}")
    axes.set_yticks(range(len(shares)), [contender.label for contender in shares])
    axes.set_xlabel("share of the memory limit")
    axes.set_xlim(0, max(1.12, *(share + 0.12 for share in shares.values())))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _draw_times(axes: Axes, results: list[CaseResult]) -> None:
    rows = np.arange(len(results))
    times = [_times(result) for result in results]
    names = [name for name in STYLES if any(name in row for row in times)]
    # Side by side within a row, so that equal times do not hide each other.
    for name, offset in zip(names, np.linspace(-0.3, 0.3, len(names)), strict=True):
        colour, marker = STYLES[name]
        axes.plot(
            [row.get(name, np.nan) for row in times],
            rows + offset,
            marker,
            color=colour,
            markersize=8,
            label=CONTENDERS[name].label,
        )
    limits = [result.loop.limits[FLOAT32_ADAMW].median for result in results]
    axes.vlines(limits, rows - 0.45, rows + 0.45, **LIMIT, label="memory limit")
    for row in rows[::2]:
        axes.axhspan(row - 0.5, row + 0.5, color="0.96", zorder=0)
    axes.set_title("Time of an AdamW step in a training loop")
    axes.set_ylim(-0.5, len(results) - 0.5)
    axes.set_yticks(rows, [result.case.title.replace(" of ", "\nof ", 1) for result in results])
    _scale_times(axes, [*limits, *(seconds for row in times for seconds in row.values())])


def _scale_times(axes: Axes, seconds: list[float]) -> None:
    axes.set_xscale("log")
    # Whole decades, so that there is a tick at either end.
    exponents = np.log10(seconds)
    axes.set_xlim(10 ** np.floor(exponents.min()), 10 ** np.ceil(exponents.max()))
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_format_tick))


def _times(result: CaseResult) -> dict[str, float]:
    return {
        contender.name: series.median
        for contender, series in result.loop.series.items()
        if contender.name in STYLES
    }


def _format_tick(seconds: float, _position: int) -> str:
    size, unit = unit_of(seconds)
    return f"{seconds / size:g} {unit}"


def _dress(axes: Axes) -> None:
    axes.invert_yaxis()
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)

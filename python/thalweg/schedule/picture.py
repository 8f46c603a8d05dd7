"""Plots of schedules, if matplotlib is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg import _core

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

# Colours of Okabe and Ito, distinct for colour-blind readers, and line styles for grey prints.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", (0, (1, 1.2)))
POINTS = 2000
"""Maximum number of points per curve; at 1,200 pixels, more would only overlap."""


def plot(
    *schedules: Callable[[int], float],
    steps: int,
    labels: Sequence[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Plot schedules, one line each.

    Parameters
    ----------
    *schedules : callable
        Schedules, or other functions of the 1-based step.
    steps : int
        The last step to plot.
    labels : sequence of str or None
        Labels of the legend; the schedules' representations if None.
    path : path-like or None
        File to save the figure to, if any; the extension selects the format.
    axes : matplotlib.axes.Axes or None
        Axes to draw on; those of a new figure if None.

    Returns
    -------
    matplotlib.axes.Axes
        The axes; ``plot(...).figure`` is the figure. The value axis is logarithmic if most values
        would otherwise lie in its lowest fiftieth.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> from thalweg import schedule
    >>> warm, cold = schedule.cosine(total=100, warmup=10), schedule.linear(total=100)
    >>> axes = schedule.plot(warm, cold, steps=120, labels=["warm", "cold"])
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['warm', 'cold']
    """
    steps = _core.check_whole("steps", steps, 1)
    names = [repr(schedule) for schedule in schedules] if labels is None else list(labels)
    if len(names) != len(schedules):
        raise ValueError(
            f"labels must have one entry per schedule ({len(schedules)}), got {len(names)}"
        )
    axes = _new_axes() if axes is None else axes
    shown = sorted({1 + i * (steps - 1) // (POINTS - 1) for i in range(POINTS)})
    curves = [[float(schedule(step)) for step in shown] for schedule in schedules]
    for i, (name, curve) in enumerate(zip(names, curves, strict=True)):
        axes.plot(
            shown,
            curve,
            color=COLOURS[i % len(COLOURS)],
            linestyle=STYLES[i % len(STYLES)] if len(curves) > 1 else "-",
            linewidth=1.8,
            label=name,
        )
    if _spans_decades([value for curve in curves for value in curve]):
        axes.set_yscale("log")
    _dress(axes, steps)
    if path is not None:
        axes.figure.figure.savefig(path)  # `figure.figure` of a subfigure is the whole
    return axes


def _new_axes() -> Axes:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an optional dependency
        from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise ImportError("a plot needs matplotlib: pip install 'thalweg[demo]'") from error
    margins = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    return Figure(figsize=(8, 4.5), dpi=150, layout=margins).add_subplot()


def _spans_decades(values: Sequence[float]) -> bool:
    """Whether most values would lie in the lowest fiftieth of a linear axis."""
    return min(values, default=0.0) > 0 and sorted(values)[len(values) // 2] < max(values) / 50


def _dress(axes: Axes, steps: int) -> None:
    axes.set_xlabel("step")
    axes.set_xlim(1, max(steps, 2))
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    # Above the axes, where it covers no curve: representations are long.
    axes.legend(loc=(0, 1), handlelength=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)

"""Pictures of schedules, with matplotlib where it is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg import _core

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

# Colours of Okabe and Ito, which colour-blind readers tell apart, and line styles for grey prints.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", (0, (1, 1.2)))
POINTS = 2000
"""More than the dots of a picture's width would be drawn on top of each other."""


def plot(
    *schedules: Callable[[int], float],
    steps: int,
    labels: Sequence[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw schedules, one line each.

    Parameters
    ----------
    *schedules : callable
        Schedules, or other functions of the 1-based step.
    steps : int
        The last step of the picture.
    labels : sequence of str or None
        What the legend calls them; their representations if None.
    path : path-like or None
        Where to save the picture, if anywhere; the ending says in which format.
    axes : matplotlib.axes.Axes or None
        Where to draw; in a new figure if None.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on; ``plot(...).figure`` is the picture. Its values are logarithmic where
        most of them would otherwise lie in the lowest fiftieth.

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
        raise ValueError(f"there are {len(schedules)} schedules and {len(names)} labels")
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
        axes.figure.figure.savefig(path)  # that of a subfigure is the whole
    return axes


def _new_axes() -> Axes:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an optional dependency
        from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415 - the same
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
    # Above, where no curve can be: representations are long.
    axes.legend(loc=(0, 1), handlelength=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)

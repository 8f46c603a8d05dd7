"""The pictures of the schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, ScalarFormatter

from thalweg_study.claim import Picture
from thalweg_study.claims.schedules import judging
from thalweg_study.claims.schedules.experiment import CYCLES, LABELS, LONGEST, Runs, Tuning
from thalweg_study.drawing import band, dress, figure, reach
from thalweg_study.schedules import SCHEDULES
from thalweg_study.statistics import mean_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from matplotlib.axes import Axes

    from thalweg_study.statistics import Floats, Interval

COLOURS = {
    "fixed": "#444444",
    "step": "#E69F00",
    "cosine": "#0072B2",
    "restarts": "#D55E00",
    "one-cycle": "#009E73",
}
MARKERS = {"fixed": "o", "step": "s", "cosine": "D", "restarts": "^", "one-cycle": "v"}
ERRORS = (0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5)
"""Where axes of errors have their ticks."""


def draw(tuning: Tuning, runs: Runs, needed: Mapping[str, Interval]) -> tuple[Picture, ...]:
    """Draw all pictures."""
    return (_curves(tuning, runs), _budgets(runs, needed), _anytime(runs), _rates(tuning, runs))


def _curves(tuning: Tuning, runs: Runs) -> Picture:
    picture = figure(9, 4.6)
    panels = picture.subplots(2, len(LABELS), sharex=True, sharey="row", height_ratios=(3, 1))
    curves = {schedule: runs.on_the_way(schedule, runs.epochs) for schedule in LABELS}
    means = np.array([curve.mean(axis=0) for curve in curves.values()])
    # The climb from a guess takes few epochs, and would press the rest together.
    shown = [i for i, epoch in enumerate(runs.epochs) if epoch >= LONGEST / 15]
    for (schedule, label), above, below in zip(LABELS.items(), *panels, strict=True):
        for other in means:
            above.plot(runs.epochs, other, color="0.8", linewidth=0.9)
        colour = COLOURS[schedule]
        band(above, runs.epochs, curves[schedule], label=label, colour=colour)
        above.set_title(label)
        _error_axis(above, means[:, shown])
        steps = np.linspace(0, 1, 600)
        eta = SCHEDULES[schedule](len(steps))
        below.plot(steps * LONGEST, [eta(i + 1) for i in range(len(steps))], color=colour)
        below.set_ylim(-0.05, 1.1)
        below.set_xlabel("epoch")
        dress(above)
        dress(below)
    panels[0, 0].set_ylabel("test error")
    panels[1, 0].set_ylabel("learning rate\nby its peak")
    lrs = ", ".join(f"{label} {tuning.best_lr(s, LONGEST):g}" for s, label in LABELS.items())
    lowest = {label: f"{runs.at(s, LONGEST).mean():.2%}" for s, label in LABELS.items()}
    return Picture(
        "schedules-curves",
        picture,
        f"Test error on the way of runs of {LONGEST} epochs, mean of {runs.seeds} seeds with its "
        "interval of 95 %; grey are the other schedules. Below, the learning rate as a share of "
        f"its peak, which validation chose ({lrs}).",
        "Five curves of test error over epochs, each above the course of its learning rate. They "
        f"end at {', '.join(f'{label} {error}' for label, error in lowest.items())}.",
    )


def _budgets(runs: Runs, needed: Mapping[str, Interval]) -> Picture:
    picture = figure(9, 4.2)
    errors, gaps, epochs = picture.subplots(1, 3)
    _draw_ends(errors, runs)
    _draw_gaps(gaps, runs)
    _draw_needed(epochs, runs, needed)
    for axes in (errors, gaps, epochs):
        dress(axes)
    errors.legend(frameon=False, fontsize="small")
    target = judging.target_error(runs)
    figures = ", ".join(f"{LABELS[s]} {judging.epochs(n)}" for s, n in needed.items())
    return Picture(
        "schedules-budgets",
        picture,
        "Left: mean test error at the end of runs of several lengths, each with the learning rate "
        "that is best for it; for warm restarts, the ends of cycles of one run. Middle: the same "
        "minus the error of the fixed learning rate, seed by seed, with intervals of 95 %; below "
        "zero is better than fixed. Right: the epochs that are needed to a mean test error; at the "
        f"target of {target:.2%} (dashed) with intervals. Lower is faster; lines end at the best "
        "that a schedule reaches. Marks that would cover each other stand side by side.",
        f"Three panels with a line for each schedule. Epochs needed to {target:.2%}: {figures}.",
    )


def _draw_ends(axes: Axes, runs: Runs) -> None:
    means = []
    for schedule, label in LABELS.items():
        budgets, errors = runs.at_budgets(schedule)
        mean = errors.mean(axis=0)
        axes.plot(budgets, mean, label=label, linewidth=1.8, markersize=5, **_style(schedule))
        means.extend(mean)
    _epoch_axis(axes, runs.budgets)
    _error_axis(axes, np.array(means))
    axes.set_xlabel("epochs of the run")
    axes.set_title("test error at the end")


def _draw_gaps(axes: Axes, runs: Runs) -> None:
    axes.axhline(0, color=COLOURS["fixed"], linewidth=1.4)
    for place, schedule in enumerate(name for name in LABELS if name != "fixed"):
        budgets, errors = runs.at_budgets(schedule)
        fixed = np.array([runs.at("fixed", budget) for budget in budgets])
        gaps = [mean_interval(100 * gap) for gap in errors.T - fixed]
        # Side by side, so that the intervals can be told apart.
        x = [budget * 1.06 ** (place - 1.5) for budget in budgets]
        _bars(axes, x, gaps, schedule)
    _epoch_axis(axes, runs.budgets)
    axes.set_xlabel("epochs of the run")
    axes.set_title("minus that of fixed, points")


def _bars(axes: Axes, x: Sequence[float], intervals: Sequence[Interval], schedule: str) -> None:
    estimates = [interval.estimate for interval in intervals]
    style = {**_style(schedule), "linestyle": "none"}
    axes.errorbar(x, estimates, reach(intervals), capsize=2, markersize=5, **style)


def _style(schedule: str) -> dict[str, Any]:
    return {"color": COLOURS[schedule], "marker": MARKERS[schedule]}


def _draw_needed(axes: Axes, runs: Runs, needed: Mapping[str, Interval]) -> None:
    target = judging.target_error(runs)
    for place, schedule in enumerate(LABELS):
        budgets, errors = runs.at_budgets(schedule)
        means = errors.mean(axis=0)
        targets = np.geomspace(means.max(), means.min(), 100)
        epochs = [judging.epochs_needed(budgets, means, value) for value in targets]
        axes.plot(targets, epochs, color=COLOURS[schedule], linewidth=1.8)
        interval = needed[schedule]
        if interval.estimate < judging.NEVER:
            # Side by side, so that the intervals can be told apart.
            x = target * 1.015 ** (place - 2)
            _bars(axes, [x], [interval], schedule)
    axes.axvline(target, color="0.4", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.invert_xaxis()
    _ticks(axes, "x")
    _epoch_axis(axes, runs.budgets, "y")
    axes.set_xlabel("test error to reach")
    axes.set_title("epochs needed to it")


def _anytime(runs: Runs) -> Picture:
    picture = figure(9, 4.4)
    axes = picture.subplots()
    shown = [epoch for epoch in runs.epochs if epoch >= LONGEST / 15]
    restarts, cosine = (runs.on_the_way(schedule, shown) for schedule in ("restarts", "cosine"))
    band(axes, shown, cosine, label=f"one cosine of {LONGEST} epochs", colour="0.45", style="--")
    band(axes, shown, restarts, label="warm restarts", colour=COLOURS["restarts"])
    ends = [mean_interval(runs.at("cosine", end)) for end in CYCLES]
    axes.errorbar(
        CYCLES,
        [end.estimate for end in ends],
        reach(ends),
        fmt=MARKERS["cosine"],
        color=COLOURS["cosine"],
        capsize=4,
        label="cosine runs of just that length",
        zorder=3,
    )
    for end in CYCLES:
        axes.axvline(end, color="0.7", linewidth=0.8, zorder=0)
    _epoch_axis(axes, CYCLES)
    _error_axis(axes, np.array([restarts.mean(axis=0), cosine.mean(axis=0)]))
    axes.set_xlabel("epoch (cycles end at the grey lines)")
    axes.set_ylabel("test error")
    dress(axes)
    axes.legend(frameon=False)
    figures = "; ".join(
        f"after {end} epochs {runs.on_the_way('restarts', (end,)).mean():.2%}, "
        f"{runs.on_the_way('cosine', (end,)).mean():.2%} and {runs.at('cosine', end).mean():.2%}"
        for end in CYCLES
    )
    return Picture(
        "schedules-anytime",
        picture,
        "What one has when a run is stopped: warm restarts, one long cosine on its way, and cosine "
        f"runs that were planned for that length. Means of {runs.seeds} seeds with intervals "
        "of 95 %.",
        "Test error over epochs. Warm restarts, the long cosine on its way, and cosine runs of "
        f"just that length: {figures}.",
    )


def _rates(tuning: Tuning, runs: Runs) -> Picture:
    picture = figure(9, 3.6)
    panels = picture.subplots(1, 3, sharey=True)
    middle = runs.budgets[len(runs.budgets) // 2]
    shown = (runs.budgets[0], middle, LONGEST)
    drawn = []
    for axes, budget in zip(panels, shown, strict=True):
        for schedule, label in LABELS.items():
            if schedule == "restarts" and budget != LONGEST:
                continue
            errors = tuning.errors(schedule, budget)
            drawn.append(errors)
            axes.plot(tuning.lrs, errors, label=label, markersize=5, **_style(schedule))
        axes.set_xscale("log")
        axes.set_xticks(tuning.lrs, [f"{lr:g}" for lr in tuning.lrs], fontsize="small")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(f"{budget} epochs")
        axes.set_xlabel("peak of the learning rate")
        dress(axes)
    _error_axis(panels[0], np.concatenate(drawn))
    panels[0].set_ylabel("validation error")
    panels[-1].legend(frameon=False, fontsize="small")
    best = "; ".join(
        f"{budget} epochs: "
        + ", ".join(
            f"{label} {tuning.best_lr(s, budget):g}"
            for s, label in LABELS.items()
            if s != "restarts" or budget == LONGEST
        )
        for budget in shown
    )
    return Picture(
        "schedules-rates",
        picture,
        "How learning rates were chosen: mean validation error over the peak of the learning rate, "
        "for runs of three lengths. The flatter a line, the easier the choice.",
        f"Three panels of validation error over learning rate. The best: {best}.",
    )


def _error_axis(axes: Axes, means: Floats) -> None:
    """Make a logarithmic axis of errors that shows these means."""
    axes.set_yscale("log")
    low, high = float(np.min(means)), float(np.max(means))
    axes.set_ylim(max(low, 1e-3) * 0.88, max(high, 2e-3) * 1.12)
    _ticks(axes, "y")


def _ticks(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(ERRORS))
    axis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_minor_locator(NullLocator())


def _epoch_axis(axes: Axes, epochs: tuple[int, ...], which: str = "x") -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_locator(FixedLocator(epochs))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_locator(NullLocator())

"""The problem over its steps; learning rates and paired differences of the networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thalweg_study import drawing
from thalweg_study.claim import Picture
from thalweg_study.claims.amsgrad.experiment import FIRST, METHODS
from thalweg_study.claims.amsgrad.judging import MARGIN, regret_of_worst
from thalweg_study.methods import METHODS as DESCRIBED
from thalweg_study.statistics import mean_interval
from thalweg_study.wording import NETWORKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from thalweg_study.claims.amsgrad.experiment import Network, Results
    from thalweg_study.task import Record

LABELS = {False: "Adam", True: "AMSGrad"}
HUES = {False: drawing.COLOURS["adamw"], True: drawing.COLOURS["amsgrad"]}


def draw(results: Results) -> tuple[Picture, ...]:
    """Draw all pictures."""
    return (
        _problem(results, stochastic=False),
        _problem(results, stochastic=True),
        _rates(results),
        _gains(results),
    )


def _problem(results: Results, *, stochastic: bool) -> Picture:
    if stochastic:
        records = results.stochastic
        title = f"The stochastic problem, means and 95 % intervals of {results.scale.copies} runs"
    else:
        records = {amsgrad: results.online[FIRST, amsgrad] for amsgrad in (False, True)}
        title = "The deterministic problem"
    steps = records[False]["steps"][-1]
    figure = drawing.figure(9, 3.8)
    regret, point = figure.subplots(1, 2)
    for amsgrad, record in records.items():
        _course(regret, record, "regret", amsgrad)
        _course(point, record, "x", amsgrad)
    worst = regret_of_worst(stochastic=stochastic)
    _mark(regret, worst, f"always at the worst point: {worst:.2g}")
    _mark(point, 1, "worst")
    _mark(point, -1, "best", below=True)
    regret.set_ylabel("average regret  $R_t/t$")
    if stochastic:
        regret.set_ylim(0, 1.2 * worst)
    else:
        regret.set(yscale="log", ylim=(worst / 4, 100 * worst))
    point.set(ylabel="point  $x_t$", ylim=(-1.25, 1.25))
    for axes in (regret, point):
        axes.set(xscale="log", xlabel="step t", xlim=(min(10, steps / 2), 1.2 * steps))
        drawing.dress(axes)
    regret.legend(frameon=False, loc="lower left" if stochastic else "upper right")
    ends = "; ".join(
        f"{LABELS[amsgrad]} is at {record['last']:.3f} in the last tenth of them, and its average "
        f"regret at the end is {record['final_regret']:.3f}"
        for amsgrad, record in records.items()
    )
    return Picture(
        name=f"amsgrad-{'stochastic' if stochastic else 'deterministic'}",
        figure=figure,
        caption=f"{title}, over {steps:,} steps. {ends}.",
        description=(
            "Two panels over the step on a logarithmic axis: the average regret, and the point "
            f"between -1, the best, and 1, the worst. {ends}."
        ),
    )


def _mark(axes: Axes, height: float, text: str, *, below: bool = False) -> None:
    axes.axhline(height, color="0.45", linewidth=1, linestyle=":")
    axes.annotate(
        text,
        (0.02, height),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, -4 if below else 4),
        textcoords="offset points",
        va="top" if below else "bottom",
        color="0.35",
    )


def _course(axes: Axes, record: Record, name: str, amsgrad: bool) -> None:
    label, colour = LABELS[amsgrad], HUES[amsgrad]
    if len(record[name]) > 1:
        drawing.band(axes, record["steps"], record[name], label=label, colour=colour)
    else:
        axes.plot(record["steps"], record[name][0], color=colour, linewidth=1.8, label=label)


def _rates(results: Results) -> Picture:
    figure = drawing.figure(9, 3.6)
    panels = figure.subplots(1, len(results.networks), sharey=True, squeeze=False)[0]
    told = []
    for axes, (model, network) in zip(panels, results.networks.items(), strict=True):
        for method in METHODS:
            lr, decay = network.chosen[method]
            rates = [pair[0] for pair in network.tuning[method] if pair[1] == decay]
            errors = 100 * np.transpose([network.tuning[method][rate, decay] for rate in rates])
            label = f"{DESCRIBED[method].label}, decay {decay:g}"
            colour = drawing.COLOURS[method]
            style = "--" if method == "amsgrad" else "-"
            drawing.band(axes, rates, errors, label=label, colour=colour, style=style)
            lowest = 100 * network.tuning[method][lr, decay].mean()
            axes.plot(lr, lowest, "o", color=colour, markersize=8)
            told.append(f"{DESCRIBED[method].label} {lowest:.1f} % at {lr:g} ({NETWORKS[model]})")
        middle = [100 * e.mean() for found in network.tuning.values() for e in found.values()]
        axes.set(xscale="log", title=NETWORKS[model], xlabel="learning rate")
        axes.set_xticks(results.scale.rates, [f"{rate:g}" for rate in results.scale.rates])
        axes.minorticks_off()
        axes.set_ylim(0, 1.4 * max(middle))
        axes.legend(frameon=False)
        drawing.dress(axes)
    panels[0].set_ylabel("validation error, %")
    best = ", ".join(told)
    return Picture(
        name="amsgrad-rates",
        figure=figure,
        caption=(
            "Validation error over the learning rate, at each method's best decay, with 95 % "
            f"intervals over {results.scale.tuning} seeds; a dot is the choice: {best}."
        ),
        description=f"Curves of AdamW and AMSGrad over the learning rate. Lowest: {best}.",
    )


def _gains(results: Results) -> Picture:
    figure = drawing.figure(9, 1.2 + 1.1 * len(results.networks))
    axes = figure.subplots()
    axes.axvspan(-100 * MARGIN, 100 * MARGIN, color="0.92", linewidth=0)
    axes.axvline(0, color="0.45", linewidth=1)
    for row, network in enumerate(results.networks.values()):
        _row(axes, row, network)
    widest = max(abs(100 * network.gains).max() for network in results.networks.values())
    axes.set(
        xlim=np.array([-1.1, 1.1]) * max(widest, 150 * MARGIN),
        ylim=(len(results.networks) - 0.4, -0.6),
        yticks=range(len(results.networks)),
        yticklabels=[NETWORKS[model] for model in results.networks],
        xlabel="AMSGrad is better by, percentage points of test error",
    )
    drawing.dress(axes)
    told = ", ".join(
        f"{mean_interval(100 * network.gains):.2f} for the {NETWORKS[model]}"
        for model, network in results.networks.items()
    )
    return Picture(
        name="amsgrad-gains",
        figure=figure,
        caption=(
            f"AdamW's test error minus AMSGrad's, seed by seed, with the mean and its 95 % "
            f"interval in black: {told}. Shaded is up to {100 * MARGIN:g} percentage points either "
            "way; a gain that is not beyond is little or nothing."
        ),
        description=f"Paired differences of test errors as dots, means with intervals: {told}.",
    )


def _row(axes: Axes, row: int, network: Network) -> None:
    gains = 100 * network.gains
    # Errors are whole numbers of pictures, so that seeds fall on each other.
    heights = row + 0.14 + 0.18 * np.linspace(0, 1, len(gains))
    axes.plot(gains, heights, "o", color=drawing.COLOURS["amsgrad"], alpha=0.8, markersize=6)
    gain = mean_interval(gains)
    axes.errorbar(
        gain.estimate,
        row - 0.12,
        xerr=drawing.reach([gain]),
        fmt="D",
        color="black",
        capsize=5,
        linewidth=2,
    )

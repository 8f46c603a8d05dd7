"""Distance over steps, the ways in a plane, distance over the strength of the penalty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from thalweg_study import drawing
from thalweg_study.claim import Picture
from thalweg_study.claims.equivalence.experiment import OTHERS
from thalweg_study.claims.equivalence.judging import over_control
from thalweg_study.statistics import mean_interval
from thalweg_study.trajectory import RULES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from thalweg_study.claims.equivalence.experiment import Results, Ways
    from thalweg_study.statistics import Floats

DECOUPLED, SAME, BEST, CONTROL = "#0072B2", "#D55E00", "#009E73", "0.45"
OF_RULE = {"sgd": "#E69F00", "momentum": "#D55E00", "adam": "#0072B2"}


def draw(results: Results) -> tuple[Picture, ...]:
    """Draw all pictures."""
    return _distance(results), _paths(results), _strength(results)


def _distance(results: Results) -> Picture:
    figure = drawing.figure(9, 3.7)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, rule in zip(panels, RULES, strict=True):
        _lines(axes, results, rule)
    panels[0].set_ylabel("distance, relative to the way")
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    ratios = {rule: stats.gmean(over_control(results, rule, "float64")) for rule in RULES}
    told = ", ".join(f"{RULES[rule].label} {ratio:.1e}" for rule, ratio in ratios.items())
    return Picture(
        name="equivalence-distance",
        figure=figure,
        caption=(
            "How far a penalty leads from decoupled decay, and in grey how far rounding alone "
            "leads: what runs along the grey lines is the same method. Bands are 95 % intervals "
            f"over {results.scale.seeds} seeds. At the end, the distance for the same number in "
            f"float64 is this many times the control's: {told}."
        ),
        description=(
            "Three panels of distance over steps on logarithmic axes, one for each rule. At the "
            f"last step, in units of the control: {told}."
        ),
    )


def _lines(axes: Axes, results: Results, rule: str) -> None:
    for dtype, style in (("float64", "-"), ("float32", "--")):
        control = results.control[rule, dtype]
        _log_band(axes, control, CONTROL, style, f"control, {dtype}")
        _log_band(axes, results.same[rule, dtype], SAME, style, f"L2 of the same number, {dtype}")
    if rule in OTHERS:
        _log_band(axes, results.best[rule], BEST, "-", "L2 that imitates best, float64")
    axes.set(xscale="log", yscale="log", title=RULES[rule].label, xlabel="step")
    drawing.dress(axes)


def _log_band(axes: Axes, ways: Ways, colour: str, style: str, label: str) -> None:
    """Draw the geometric mean and its interval; an exact zero is drawn far below rounding."""
    intervals = [mean_interval(column) for column in np.log(np.maximum(ways.distance, 1e-18)).T]
    middle, low, high = (
        np.exp([getattr(interval, part) for interval in intervals])
        for part in ("estimate", "low", "high")
    )
    axes.plot(ways.steps, middle, style, color=colour, linewidth=1.8, label=label)
    axes.fill_between(ways.steps, low, high, color=colour, alpha=0.15, linewidth=0)


def _paths(results: Results) -> Picture:
    figure = drawing.figure(9, 5.6)
    panels = figure.subplots(2, 3)
    for column, rule in enumerate(RULES):
        _plane(panels[0, column], results.same[rule, "float64"], SAME)
        panels[0, column].set_title(f"{RULES[rule].label}\nL2 of the same number")
        if rule in OTHERS:
            _plane(panels[1, column], results.best[rule], BEST)
            panels[1, column].set_title(f"L2 of {results.best_factor(rule):.3g} times the number")
    panels[1, 0].set_axis_off()
    handles = [
        panels[0, 0].plot([], [], color=colour, linewidth=width, label=label)[0]
        for colour, width, label in (
            (DECOUPLED, 4, "decoupled decay"),
            (SAME, 1.5, "L2 of the same number"),
            (BEST, 1.5, "L2 that imitates best"),
        )
    ]
    panels[1, 0].legend(handles=handles, loc="center", frameon=False)
    ends = {rule: results.same[rule, "float64"].ends[0] for rule in RULES}
    told = ", ".join(f"{RULES[rule].label} {end:.1e}" for rule, end in ends.items())
    best = ", ".join(f"{RULES[rule].label} {results.best[rule].ends[0]:.1e}" for rule in OTHERS)
    return Picture(
        name="equivalence-paths",
        figure=figure,
        caption=(
            "The ways of one seed from the start, the black dot, in the plane of their two "
            "principal components; a dot ends each. The distances of the ends, relative to the "
            f"way, over all dimensions, are for the same number {told}; for the strength that "
            f"imitates best {best}."
        ),
        description=(
            "Five panels, each with the way of decoupled decay and that of a penalty in a plane. "
            f"Relative distances of the ends: same number {told}; best strength {best}."
        ),
    )


def _plane(axes: Axes, ways: Ways, colour: str) -> None:
    for path, hue, width in zip(ways.paths, (DECOUPLED, colour), (4.0, 1.5), strict=True):
        x, y = np.transpose(path)
        axes.plot(x, y, color=hue, linewidth=width, solid_capstyle="round")
        axes.plot(x[-1], y[-1], "o", color=hue, markersize=width + 4)
    axes.plot(0, 0, "o", color="black", markersize=6)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xticklabels=[], yticklabels=[])
    drawing.dress(axes)


def _strength(results: Results) -> Picture:
    figure = drawing.figure(9, 4.2)
    axes = figure.subplots()
    axes.axhline(1, color="0.45", linewidth=1, linestyle=":")
    for rule in RULES:
        factors, distances = _with_best(results, rule)
        label = RULES[rule].label
        drawing.band(axes, factors.tolist(), distances, label=label, colour=OF_RULE[rule])
        smallest = mean_interval(results.smallest(rule))
        at = results.best_factor(rule), smallest.estimate
        axes.plot(*at, "o", color=OF_RULE[rule], markersize=8)
        axes.annotate(
            f"{smallest.estimate:.2g}",
            at,
            xytext=(0, -17),
            textcoords="offset points",
            ha="center",
            color=OF_RULE[rule],
            weight="bold",
        )
    axes.set(
        xscale="log",
        ylim=(-0.18, 1.6),
        xlabel="L2 penalty in units of the decay",
        ylabel="distance, in units of the decay's effect",
    )
    axes.text(0.01, 1.04, "as far as without any decay", color="0.35")
    axes.legend(frameon=False, loc="lower left")
    drawing.dress(axes)
    told = ", ".join(
        f"{RULES[rule].label} {mean_interval(results.smallest(rule)):.2g} at "
        f"{results.best_factor(rule):.3g}"
        for rule in RULES
    )
    return Picture(
        name="equivalence-strength",
        figure=figure,
        caption=(
            "How far a penalty of any strength ends from decoupled decay: 0 is the same place, 1 "
            "as far as training without decay ends. Dots are the best strengths, with means and "
            f"95 % intervals over {results.scale.seeds} seeds: {told} of the decay's number."
        ),
        description=(
            "Distance over the strength of the penalty, one curve for each rule. The smallest "
            f"distances: {told} of the decay's number."
        ),
    )


def _with_best(results: Results, rule: str) -> tuple[Floats, Floats]:
    """Return factors and a row of distances for each seed; the best found is put among them."""
    records = results.imitations[rule]
    factors = np.array([*records[0]["factors"], results.best_factor(rule)])
    distances = np.array([[*record["distance"], record["smallest"]] for record in records])
    order = np.argsort(factors)
    return factors[order], distances[:, order]

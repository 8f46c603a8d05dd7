"""The pictures of normalized decay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, ScalarFormatter

from thalweg_study.claim import Picture
from thalweg_study.claims.normalized_decay import judging
from thalweg_study.claims.normalized_decay.experiment import KEPT
from thalweg_study.drawing import dress, figure, reach
from thalweg_study.statistics import bootstrap, mean_interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from thalweg_study.claims.normalized_decay.experiment import Grid
    from thalweg_study.statistics import Floats, Interval

COLOUR = "#009E73"
ERRORS = (
    0.03,
    0.04,
    0.05,
    0.06,
    0.07,
    0.08,
    0.09,
    0.1,
    0.11,
    0.12,
    0.15,
    0.2,
    0.25,
    0.3,
    0.4,
    0.6,
    0.8,
)
"""Where axes of errors have their ticks."""


def draw(
    grid: Grid, decays: Mapping[str, float], costs: Mapping[str, Floats]
) -> tuple[Picture, ...]:
    """Draw all pictures."""
    return (_basins(grid), _bests(grid), _costs(grid, decays, costs))


def _basins(grid: Grid) -> Picture:
    picture = figure(9, 4.4)
    left, right = picture.subplots(1, 2, sharey=True)
    means = grid.errors().mean(axis=-1)
    colours = colormaps["viridis"](np.linspace(0.9, 0.05, len(grid.budgets)))
    bests = 10 ** judging.bests(grid)
    norms = [judging.normalized(d, b) for d, b in zip(bests, grid.budgets, strict=True)]
    for place, budget in enumerate(grid.budgets):
        found = np.interp(np.log(bests[place]), np.log(grid.decays), means[place])
        for axes, scale in ((left, 1.0), (right, judging.normalized(1, budget))):
            x = np.array(grid.decays) * scale
            axes.plot(x, means[place], color=colours[place], label=f"{budget} epochs")
            axes.plot(
                bests[place] * scale,
                found,
                "o",
                color=colours[place],
                markersize=9,
                markeredgecolor="black",
                zorder=3,
            )
    for axes, name in ((left, "λ"), (right, "λ_norm = λ·√(B·T/b)")):
        axes.set_xscale("log")
        axes.set_xlabel(name)
        dress(axes)
    _error_axis(left, float(means.min()), float(means[:, 0].max()))
    left.set_ylabel("validation error")
    left.set_title("decay")
    right.set_title("normalized decay")
    left.legend(frameon=False)
    return Picture(
        "normalized-decay-basins",
        picture,
        "Validation error over decay, a curve for each length of the run, over λ and over λ_norm: "
        f"means of {grid.seeds} seeds, the best decay marked. If λ_norm were the same for all, the "
        "marks on the right would stand above each other. Errors that are far above the best are "
        "cut off.",
        "Two panels of curves, each with its best decay marked. From the shortest to the longest "
        f"run ({', '.join(map(str, grid.budgets))} epochs) the best λ is {_listed(bests)}, the "
        f"best λ_norm {_listed(norms)}.",
    )


def _bests(grid: Grid) -> Picture:
    picture = figure(9, 4.4)
    axes = picture.subplots()
    bests = [judging.best(grid, place) for place in range(len(grid.budgets))]
    estimates = np.array([found.estimate for found in bests])
    axes.errorbar(
        grid.steps,
        estimates,
        reach(bests),
        fmt="o",
        color=COLOUR,
        capsize=4,
        label="best λ",
        zorder=3,
    )
    found = judging.slope(grid)
    _draw_line(axes, grid, f"fitted, power {found:.2f}")
    centre = float(np.exp(np.log(estimates).mean()))
    ratios = np.array(grid.steps) / np.exp(np.log(grid.steps).mean())
    for power, style, name in (
        (-0.5, "--", "power -1/2: λ_norm stays"),
        (-1.0, ":", "power -1: λ·steps stays"),
        (0.0, "-.", "power 0: λ stays"),
    ):
        axes.plot(grid.steps, centre * ratios**power, style, color="0.35", label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(grid.steps))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("steps of the run")
    axes.set_ylabel("best λ")
    dress(axes)
    axes.legend(frameon=False)
    return Picture(
        "normalized-decay-slope",
        picture,
        "The best decay over the number of steps, with intervals of 95 % and the line through it "
        "with its band, against three predictions: dashed is the paper's, by which λ_norm stays.",
        f"The best λ over steps on logarithmic axes. Its slope is {found:.2f}.",
    )


def _draw_line(axes: Axes, grid: Grid, label: str) -> None:
    def at(place: int) -> Interval:
        def value(seeds: NDArray[np.intp]) -> float:
            _, fitted = judging.line(grid, judging.bests(grid, seeds))
            return 10 ** float(fitted[place])

        return bootstrap(value, grid.seeds)

    fitted = [at(place) for place in range(len(grid.budgets))]
    axes.plot(grid.steps, [f.estimate for f in fitted], color=COLOUR, linewidth=1.8, label=label)
    low, high = [f.low for f in fitted], [f.high for f in fitted]
    axes.fill_between(grid.steps, low, high, color=COLOUR, alpha=0.15, linewidth=0)


def _costs(grid: Grid, decays: Mapping[str, float], costs: Mapping[str, Floats]) -> Picture:
    picture = figure(9, 2.8)
    axes = picture.subplots()
    gaps = {kept: mean_interval(100 * (costs[kept] - costs["λ"])) for kept in KEPT[1:]}
    axes.axvline(0, color="0.3", linewidth=1.2)
    for place, gap in enumerate(gaps.values()):
        axes.errorbar(gap.estimate, place, xerr=reach([gap]), fmt="o", color=COLOUR, capsize=4)
    names = {"nothing": "tuned anew"}
    labels = [f"{names.get(kept, f'{kept} kept')}\n(λ = {decays[kept]:.2g})" for kept in gaps]
    axes.set_yticks(range(len(gaps)), labels)
    axes.set_ylim(len(gaps) - 0.5, -0.5)
    axes.set_xlabel(
        f"test error minus that of λ kept (λ = {decays['λ']:.2g}), percentage points; left is "
        "better"
    )
    dress(axes)
    return Picture(
        "normalized-decay-costs",
        picture,
        f"The best decay of {grid.budgets[0]} epochs, carried to {grid.budgets[-1]} epochs: what "
        "it gains to keep something else than λ itself. Paired differences of test error over "
        f"{len(costs['λ'])} seeds that chose nothing, with intervals of 95 %.",
        "Differences of test error to keeping λ, in percentage points: "
        + "; ".join(f"{names.get(kept, f'{kept} kept')} {gap:+.2f}" for kept, gap in gaps.items())
        + ".",
    )


def _error_axis(axes: Axes, low: float, high: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(low * 0.95, max(high, low * 1.2) * 1.1)
    axes.yaxis.set_major_locator(FixedLocator(ERRORS))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_minor_locator(NullLocator())


def _listed(numbers: Floats | list[float]) -> str:
    return ", ".join(f"{number:.2g}" for number in numbers)

"""The rules that judge normalized decay, and the tables of what they are applied to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import thalweg
from thalweg_study.claim import Table, Verdict
from thalweg_study.claims.normalized_decay.experiment import BATCH_SIZE, KEPT, LR, MEASURES, SIZE
from thalweg_study.rules import below
from thalweg_study.statistics import Interval, bootstrap, mean_interval
from thalweg_study.wording import listed, points

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from thalweg_study.claim import Outcome
    from thalweg_study.claims.normalized_decay.experiment import Grid
    from thalweg_study.statistics import Floats

SHARPNESS = 0.02
"""How far above the least error, as a share of it, a decay has a weight of 1/e."""

FLAT = 0.25
"""A slope within this of zero is none: half of what the paper's normalization takes out."""

PREDICTIONS = {
    # The averaging time stays as many epochs; λ_norm stays; λ·steps stays, and the averaging time
    # is the same share of the run.
    0.0: "0",
    -0.5: "-1/2",
    -1.0: "-1",
}


def best_logs(decays: tuple[float, ...], errors: Floats) -> Floats:
    """Return the logarithm of the best decay to base ten, for each row of mean errors."""
    least = errors.min(axis=1, keepdims=True)
    weights = np.exp(-(errors / least - 1) / SHARPNESS)
    logs: Floats = weights @ np.log10(decays) / weights.sum(axis=1)
    return logs


def bests(
    grid: Grid,
    seeds: NDArray[np.intp] | slice = slice(None),
    *,
    measure: str = "validation_error",
    lr: float = LR,
) -> Floats:
    """Return the logarithm of the best decay of each budget."""
    return best_logs(grid.decays, grid.errors(measure, lr)[:, :, seeds].mean(axis=-1))


def line(grid: Grid, logs: Floats) -> tuple[float, Floats]:
    """Return the slope of the straight line through best decays, and where it is at each budget."""
    steps = np.log10(grid.steps)
    steps -= steps.mean()
    slope = float(steps @ logs / (steps @ steps))
    return slope, logs.mean() + slope * steps


def slope(grid: Grid, measure: str = "validation_error", lr: float = LR) -> Interval:
    """Return by which power of the steps the best decay moves."""
    return bootstrap(
        lambda seeds: line(grid, bests(grid, seeds, measure=measure, lr=lr))[0], grid.seeds
    )


def best(grid: Grid, place: int) -> Interval:
    """Return the best decay of a budget."""
    return bootstrap(lambda seeds: 10 ** float(bests(grid, seeds)[place]), grid.seeds)


def normalized(decay: float, epochs: int) -> float:
    """Return the λ_norm of a decay."""
    return decay / thalweg.normalized_decay(1, BATCH_SIZE, SIZE, epochs)


def carried(grid: Grid) -> dict[str, float]:
    """Return the decays for the longest runs, by what they keep of the best of the shortest."""
    shortest, longest = grid.budgets[0], grid.budgets[-1]
    logs = bests(grid)
    decay = 10 ** float(logs[0])
    norm = normalized(decay, shortest)
    decays = (
        decay,
        thalweg.normalized_decay(norm, BATCH_SIZE, SIZE, longest),
        decay * shortest / longest,
        10 ** float(logs[-1]),
    )
    return dict(zip(KEPT, decays, strict=True))


def verdicts(grid: Grid, costs: Mapping[str, Floats]) -> tuple[Verdict, ...]:
    """Judge all claims."""
    found = slope(grid)
    return (_falls(found), _moves_less(found), _stays(found), _pays(grid, costs))


def _falls(found: Interval) -> Verdict:
    contained = [text for value, text in PREDICTIONS.items() if found.contains(value)]
    return Verdict(
        "The longer a run, the smaller its best decay λ.",
        "The slope of log λ over log steps: holds if its interval is below 0; else does not hold "
        f"if it is above {-FLAT:g}, and is undecided otherwise.",
        below(found, 0, fails_above=-FLAT),
        f"The best λ goes as the number of steps to the power {found:.2f}. Of 0 (an averaging time "
        "of as many epochs), -1/2 (the same λ_norm) and -1 (an averaging time of the same share of "
        f"the run) the interval contains {listed(contained) if contained else 'none'}.",
    )


def _moves_less(found: Interval) -> Verdict:
    return Verdict(
        "The best λ_norm depends on the length of a run less than the best λ does.",
        f"Its slope is that of λ plus 1/2, so it is the smaller one if that of λ is below {-FLAT:g}"
        ": holds if the interval is below, does not hold if it is above, undecided otherwise.",
        below(found, -FLAT),
        f"Slope of λ {found:.2f}, of λ_norm {_plus_half(found):.2f}.",
    )


def _stays(found: Interval) -> Verdict:
    norm = _plus_half(found)
    if not norm.contains(0):
        outcome: Outcome = "does not hold"
    else:
        outcome = "holds" if norm.within(-FLAT, FLAT) else "undecided"
    return Verdict(
        "The best λ_norm does not depend on the length of a run.",
        "The slope of log λ_norm over log steps: does not hold if its interval excludes 0; holds "
        f"if it contains 0 and lies within {FLAT:g} of it, undecided if it is wider.",
        outcome,
        f"The best λ_norm goes as the number of steps to the power {norm:.2f}.",
    )


def _pays(grid: Grid, costs: Mapping[str, Floats]) -> Verdict:
    gap = mean_interval(costs["λ_norm"] - costs["λ"])
    shortest, longest = grid.budgets[0], grid.budgets[-1]
    return Verdict(
        "When a run gets longer, keeping λ_norm gives a better result than keeping λ.",
        f"The best decay of {shortest} epochs is carried to {longest} epochs. Paired differences "
        "of test error: holds if their interval is below 0, does not hold if it is above 0, "
        "undecided otherwise.",
        below(gap, 0),
        f"λ_norm kept minus λ kept: {points(gap)} percentage points. Tuned anew, "
        f"{points(mean_interval(costs['nothing'] - costs['λ']))} against λ kept.",
    )


def _plus_half(found: Interval) -> Interval:
    return Interval(found.estimate + 0.5, found.low + 0.5, found.high + 0.5)


def tables(
    grid: Grid, decays: Mapping[str, float], costs: Mapping[str, Floats]
) -> tuple[Table, ...]:
    """Return the best decays, the slopes by other measures, and the costs of carrying."""
    return (_bests(grid), _slopes(grid), _costs(grid, decays, costs))


def _bests(grid: Grid) -> Table:
    rows = []
    for place, (budget, steps) in enumerate(zip(grid.budgets, grid.steps, strict=True)):
        found = best(grid, place)
        time = thalweg.averaging_time(
            LR, found.estimate, independent=True, batch_size=BATCH_SIZE, samples=SIZE
        )
        norm = normalized(found.estimate, budget)
        rows.append((str(budget), str(steps), f"{found:.2g}", f"{norm:.2g}", f"{time.epochs:.3g}"))
    return Table(
        "The best decay of each budget, and the time in epochs over which it averages at the "
        "peak of the schedule.",
        ("epochs", "steps", "best λ", "λ_norm", "averaging time"),
        tuple(rows),
    )


def _slopes(grid: Grid) -> Table:
    return Table(
        "The slope of the best λ by other measures and learning rates; the first is judged. Where "
        "they differ, the answer depends on what is asked for.",
        ("learning rate", *MEASURES.values()),
        tuple(
            (f"{lr:g}", *(f"{slope(grid, measure, lr):.2f}" for measure in MEASURES))
            for lr in grid.lrs
        ),
    )


def _costs(grid: Grid, decays: Mapping[str, float], costs: Mapping[str, Floats]) -> Table:
    return Table(
        f"Runs of {grid.budgets[-1]} epochs with a decay that keeps something of the best of "
        f"{grid.budgets[0]} epochs, or nothing and is tuned anew.",
        ("kept", "λ", "test error", "minus that of λ kept, points"),
        tuple(
            (
                kept,
                f"{decays[kept]:.2g}",
                f"{mean_interval(costs[kept]):.2%}",
                "" if kept == "λ" else points(mean_interval(costs[kept] - costs["λ"])),
            )
            for kept in KEPT
        ),
    )

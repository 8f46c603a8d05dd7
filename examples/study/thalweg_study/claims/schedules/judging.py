"""The rules that judge schedules, and the tables of what they are applied to."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from thalweg_study.claim import Table, Verdict
from thalweg_study.claims.schedules.experiment import (
    CYCLES,
    FIRST_CYCLE,
    LABELS,
    LONGEST,
    Runs,
    Tuning,
)
from thalweg_study.rules import below
from thalweg_study.statistics import Interval, bootstrap, mean_interval
from thalweg_study.wording import AT_AN_END, choice, listed, points

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from thalweg_study.claim import Outcome
    from thalweg_study.statistics import Floats

ALLOWANCE = 0.005
"""Distance of the target of all schedules from the best error of the fixed learning rate."""

NEAR = 0.005
"""How much worse than a cosine of just that length the end of a cycle may be."""

NEVER = 2 * LONGEST
"""The epochs that a schedule counts with which does not reach a target."""


def verdicts(runs: Runs, needed: Mapping[str, Interval]) -> tuple[Verdict, ...]:
    """Judge all claims."""
    return (
        _faster(runs, needed),
        _better(runs, "fixed"),
        _better(runs, "step"),
        _anytime(runs),
        _near(runs),
    )


def epochs_needed(budgets: tuple[int, ...], means: Floats, target: float) -> float:
    """Return the epochs to a mean error, between budgets along the lowest error so far."""
    lowest = np.minimum.accumulate(means)
    reached = np.flatnonzero(lowest <= target)
    if not reached.size:
        return NEVER
    after = int(reached[0])
    if after == 0:
        return budgets[0]
    share = (lowest[after - 1] - target) / (lowest[after - 1] - lowest[after])
    return float(budgets[after - 1] * (budgets[after] / budgets[after - 1]) ** share)


def target_error(runs: Runs, seeds: NDArray[np.intp] | slice = slice(None)) -> float:
    """Return what all schedules have to reach."""
    _, errors = runs.at_budgets("fixed")
    return float(errors[seeds].mean(axis=0).min()) + ALLOWANCE


def all_needed(runs: Runs) -> dict[str, Interval]:
    """Return the epochs that each schedule needs to the target."""
    return {name: bootstrap(partial(_needed, runs, name), runs.seeds) for name in LABELS}


def _needed(runs: Runs, schedule: str, seeds: NDArray[np.intp]) -> float:
    budgets, errors = runs.at_budgets(schedule)
    return epochs_needed(budgets, errors[seeds].mean(axis=0), target_error(runs, seeds))


def _faster(runs: Runs, needed: Mapping[str, Interval]) -> Verdict:
    ratio = bootstrap(
        lambda seeds: _needed(runs, "one-cycle", seeds) / _needed(runs, "fixed", seeds), runs.seeds
    )
    target = target_error(runs)
    return Verdict(
        "With AdamW, one cycle of the learning rate reaches an accuracy in fewer epochs than a "
        "fixed learning rate.",
        "The accuracy is that of the fixed learning rate at its best budget, in the mean, less "
        f"{100 * ALLOWANCE:g} percentage points. Holds if the interval of the quotient of epochs "
        "needed, one-cycle by fixed, is below 1, does not hold if it is above 1, undecided "
        f"otherwise. A schedule that does not reach it counts with {NEVER} epochs.",
        below(ratio, 1),
        f"Epochs to {1 - target:.2%} accuracy: one-cycle {epochs(needed['one-cycle'])}, "
        f"fixed {epochs(needed['fixed'])}; quotient {ratio:.2f}.",
    )


def _better(runs: Runs, other: str) -> Verdict:
    gaps = runs.at_budgets("cosine")[1] - runs.at_budgets(other)[1]
    gap, longest = mean_interval(gaps.mean(axis=1)), mean_interval(gaps[:, -1])
    name = {"fixed": "a fixed learning rate", "step": "one that drops in steps"}[other]
    return Verdict(
        f"A learning rate that falls along a cosine ends with a lower error than {name}.",
        "Paired differences of test error, averaged over all budgets: holds if their interval is "
        "below 0, does not hold if it is above 0, undecided otherwise.",
        below(gap, 0),
        f"Cosine minus {LABELS[other]}: {points(gap)} percentage points; of the longest runs alone "
        f"{points(longest)}.",
    )


def _anytime(runs: Runs) -> Verdict:
    ends = CYCLES[:-1]
    gaps = runs.on_the_way("restarts", ends) - runs.on_the_way("cosine", ends)
    gap, last = mean_interval(gaps.mean(axis=1)), mean_interval(_price(runs)[:, -1])
    return Verdict(
        "Warm restarts have a better anytime performance: where a cycle ends, the run is better "
        "than a single long cosine at that epoch.",
        f"Paired differences of test error after {listed(ends)} of {LONGEST} epochs, averaged: "
        "holds if their interval is below 0, does not hold if it is above 0, undecided otherwise.",
        below(gap, 0),
        f"Restarts minus the long cosine on its way: {points(gap)} percentage points; at the end "
        f"of both {points(last)}.",
    )


def _near(runs: Runs) -> Verdict:
    price = _price(runs)
    worst = [mean_interval(column) for column in price.T]
    if all(gap.below(NEAR) for gap in worst):
        outcome: Outcome = "holds"
    else:
        outcome = "does not hold" if any(gap.above(NEAR) for gap in worst) else "undecided"
    each = "; ".join(f"{end} epochs {points(g)}" for end, g in zip(CYCLES, worst, strict=True))
    return Verdict(
        "Whenever a cycle ends, warm restarts are about as good as a cosine run of just that "
        "length, which had to know it.",
        f"Paired differences of test error at each end of a cycle: holds if all intervals are "
        f"below {100 * NEAR:g} percentage points, does not hold if one of them is above, undecided "
        "otherwise.",
        outcome,
        f"Restarts minus cosine, in percentage points: {each}.",
    )


def _price(runs: Runs) -> Floats:
    """Return what it costs at each end of a cycle not to have known the length."""
    cosine: Floats = np.array([runs.at("cosine", end) for end in CYCLES]).T
    restarts: Floats = runs.at_budgets("restarts")[1]
    return restarts - cosine


def epochs(interval: Interval) -> str:
    """Format epochs needed, of which nothing is known beyond the longest runs and the shortest."""
    estimate, low, high = map(_epochs, (interval.estimate, interval.low, interval.high))
    return f"{estimate} ({low} to {high})"


def _epochs(value: float) -> str:
    if value > LONGEST:
        return f"more than {LONGEST}"
    return f"at most {FIRST_CYCLE}" if value <= FIRST_CYCLE else f"{value:.0f}"


def tables(tuning: Tuning, runs: Runs, needed: Mapping[str, Interval]) -> tuple[Table, ...]:
    """Return the errors at the end of budgets with the epochs needed, and the learning rates."""
    target = target_error(runs)
    columns = tuple(f"{budget} epochs" for budget in runs.budgets)
    errors, rates = [], []
    for schedule, label in LABELS.items():
        budgets, found = runs.at_budgets(schedule)
        cells = {b: f"{mean_interval(e):.2%}" for b, e in zip(budgets, found.T, strict=True)}
        errors.append((label, *(cells.get(b, "") for b in runs.budgets), epochs(needed[schedule])))
        rates.append((label, *(_rate(tuning, schedule, b) for b in runs.budgets)))
    return (
        Table(
            "Mean test error after budgets of epochs with its interval, and the epochs that are "
            f"needed to {target:.2%}.",
            ("schedule", *columns, f"epochs to {target:.2%}"),
            tuple(errors),
        ),
        Table(
            f"The learning rates that validation chose. {AT_AN_END}",
            ("schedule", *columns),
            tuple(rates),
        ),
    )


def _rate(tuning: Tuning, schedule: str, budget: int) -> str:
    if schedule == "restarts" and budget != LONGEST:
        return ""
    return choice(tuning.best_lr(schedule, budget), tuning.lrs)

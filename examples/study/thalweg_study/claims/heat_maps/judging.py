"""Judgement of the maps: verdicts on directions of basins and on tuning apart, and the table."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from thalweg_study.basins import FEWEST, NEAR, RULE, cost_from_anywhere, cost_of_tuning_apart, gain
from thalweg_study.claim import Table, Verdict
from thalweg_study.methods import METHODS
from thalweg_study.rules import above
from thalweg_study.statistics import bootstrap, mean_interval
from thalweg_study.wording import AT_AN_END, choice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from thalweg_study.basins import Basin
    from thalweg_study.claim import Outcome
    from thalweg_study.grids import Map

DIAGONAL = (
    "With {} and the L2 penalty, learning rate and penalty depend on each other: the good settings "
    "lie diagonally."
)
ALONG = "With {}, {}, they are largely independent: the good settings lie along the axes."
CLAIMED = {
    "sgd": (DIAGONAL.format("SGD"), "diagonally"),
    "sgdw-independent": (ALONG.format("SGDW", "as the paper has it, decay·p"), "along the axes"),
    "adam": (DIAGONAL.format("Adam"), "diagonally"),
    "adamw-independent": (ALONG.format("AdamW", "as the paper has it, decay·p"), "along the axes"),
    "adamw": (
        ALONG.format("AdamW", "as torch and optax have it, lr·decay·p"),
        "along the axes",
    ),
}
"""The claim about a method, and the direction of its basin. The last is practice, not the paper."""

APART = {"SGD": ("sgd", "sgdw-independent"), "Adam": ("adam", "adamw-independent")}
"""Penalty and the paper's decay of each family."""


def verdicts(maps: Mapping[str, Map], basins: Mapping[str, Basin]) -> tuple[Verdict, ...]:
    """Judge how basins lie, what decay does, and what tuning apart costs."""
    return (*_directions(basins), _effect(maps), *_tuning(maps))


def _directions(basins: Mapping[str, Basin]) -> list[Verdict]:
    return [
        Verdict(sentence, RULE, _agrees(basins[method].lies, claimed), _slope(basins[method]))
        for method, (sentence, claimed) in CLAIMED.items()
    ]


def _tuning(maps: Mapping[str, Map]) -> list[Verdict]:
    found = []
    for family, (penalty, decoupled) in APART.items():
        one, other = maps[penalty], maps[decoupled]
        saved = bootstrap(_difference(one, other), len(one.seeds))
        found.append(
            Verdict(
                f"Decoupling makes it cheaper to tune learning rate and decay of {family} one "
                "after the other.",
                f"From every decay that comes near the best (at most {NEAR:g} times its validation "
                "error) the learning rate is tuned, then the decay at that learning rate, and what "
                "the result lacks to the best of all pairs is averaged. All is tuned by validation "
                "error; what is lacking is test error, and can be below 0 by chance. Holds if the "
                "interval of what the paper's decay saves against the penalty is above 0, does not "
                "hold if it is below, undecided otherwise.",
                above(saved, 0),
                f"{METHODS[penalty].label} loses {_points(_anywhere(one))} of test error, "
                f"{METHODS[decoupled].label} {_points(_anywhere(other))}; decoupling saves "
                f"{saved.scaled(100):.2f} points.",
            )
        )
    return found


def _effect(maps: Mapping[str, Map]) -> Verdict:
    penalty, decoupled = maps["adam"], maps["adamw"]
    more = bootstrap(
        lambda seeds: gain(decoupled, seeds) - gain(penalty, seeds), len(penalty.seeds)
    )
    return Verdict(
        "With Adam the L2 penalty helps less than decoupled decay does.",
        "What helps is the test error of the best learning rate with the smallest decay of the "
        "grid, minus that of the best pair, both by validation error. Holds if the interval of "
        "what decoupled decay helps more than the penalty is above 0, does not hold if it is "
        "below, undecided otherwise.",
        above(more, 0),
        f"The penalty helps by {_points(gain(penalty, penalty.seeds))}, decoupled decay by "
        f"{_points(gain(decoupled, decoupled.seeds))}: {more.scaled(100):.2f} points more.",
    )


def tables(maps: Mapping[str, Map], basins: Mapping[str, Basin]) -> tuple[Table, Table]:
    """Return the best settings of all methods, and how their basins lie."""
    return (
        Table(
            "The best pair by validation error, its test error in percent, and how many points "
            f"better that is than the smallest decay with its best learning rate. {AT_AN_END}",
            ("method", "learning rate", "decay", "test error", "gained by decay"),
            tuple(_best(method, of) for method, of in maps.items()),
        ),
        Table(
            "The slope of the best decay over the learning rate, on how many learning rates it "
            "rests, and what is lost, in points of test error, by tuning the learning rate first: "
            "with the smallest decay, or with any that comes near the best.",
            ("method", "slope", "rates", "lost from smallest", "lost from any"),
            tuple(_shape(method, maps[method], basin) for method, basin in basins.items()),
        ),
    )


def _best(method: str, of: Map) -> tuple[str, ...]:
    lr, decay = of.tuned()
    error = mean_interval(of.test[of.best()])
    return (
        METHODS[method].label,
        choice(lr, of.grid.lrs),
        choice(decay, of.grid.decays),
        f"{error.scaled(100):.2f}",
        _points_with_interval(partial(gain, of), of),
    )


def _shape(method: str, of: Map, basin: Basin) -> tuple[str, ...]:
    return (
        METHODS[method].label,
        "-" if basin.slope is None else f"{basin.slope:.2f}",
        f"{len(basin.lrs)}",
        _points_with_interval(partial(cost_of_tuning_apart, of), of),
        _points_with_interval(partial(cost_from_anywhere, of), of),
    )


def _points_with_interval(figure: Callable[[NDArray[np.intp]], float], of: Map) -> str:
    return f"{bootstrap(figure, len(of.seeds)).scaled(100):.2f}"


def _agrees(lies: str, claimed: str) -> Outcome:
    if lies == "undecided":
        return "undecided"
    return "holds" if lies == claimed else "does not hold"


def _slope(basin: Basin) -> str:
    if basin.slope is None:
        return f"No slope: {FEWEST} learning rates have to count, and {len(basin.lrs)} do."
    return f"The slope is {basin.slope:.2f}, over {len(basin.lrs)} learning rates."


def _difference(one: Map, other: Map) -> Callable[[NDArray[np.intp]], float]:
    return lambda seeds: cost_from_anywhere(one, seeds) - cost_from_anywhere(other, seeds)


def _anywhere(of: Map) -> float:
    return cost_from_anywhere(of, of.seeds)


def _points(share: float) -> str:
    return f"{100 * share:.2f} points"

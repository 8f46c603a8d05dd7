"""The runs: how near the best penalty comes, then the ways of both kinds of decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from scipy import stats

from thalweg_study.task import Task
from thalweg_study.trajectory import BATCH_SIZE, RULES, SIZE, Imitation, Trajectory

if TYPE_CHECKING:
    from thalweg_study.claim import Perform, Setting
    from thalweg_study.statistics import Floats
    from thalweg_study.task import Record

K = TypeVar("K")
T = TypeVar("T", bound=Task)

OTHERS = ("momentum", "adam")
"""The rules for which the same number is another strength, so that the best is looked at too."""

DTYPES = ("float64", "float32")
SHRINKAGE = 2e-3
"""The share of the weights that decay takes away in a step, the same for all rules."""


@dataclass(frozen=True)
class Scale:
    """How much is run."""

    steps: int
    seeds: int


QUICK = Scale(steps=150, seeds=4)
FULL = Scale(steps=600, seeds=12)


def scale_of(setting: Setting) -> Scale:
    """Return how much is run in a setting."""
    return FULL if setting.thorough else QUICK


@dataclass(frozen=True)
class Ways:
    """The trajectories of one rule, dtype and kind of second run, a row for every seed."""

    steps: list[int]
    distance: Floats
    paths: list[list[list[float]]]
    """Those of the first seed, the decoupled one first."""

    @property
    def ends(self) -> Floats:
        """The distance after the last step."""
        return self.distance[:, -1]


@dataclass(frozen=True)
class Results:
    """Everything that was found, by rule."""

    data: str
    scale: Scale
    imitations: dict[str, list[Record]]
    same: dict[tuple[str, str], Ways]
    """Penalty and decay of the same number, by rule and dtype."""

    control: dict[tuple[str, str], Ways]
    """Decay and decay from a start that is a unit in the last place off, by rule and dtype."""

    best: dict[str, Ways]
    """Decay and the penalty that imitates it best, in float64."""

    def smallest(self, rule: str) -> Floats:
        """Return what no penalty reproduces of the decay's effect, for every seed."""
        return np.array([record["smallest"] for record in self.imitations[rule]])

    def best_factor(self, rule: str) -> float:
        """Return the best penalty in units of the decay, as the seeds have it in the middle."""
        return _middle(self.imitations[rule])


def plan(setting: Setting) -> list[Imitation | Trajectory]:
    """Return all tasks; a penalty of some strength stands in for the best."""
    trajectories = _trajectories(setting, dict.fromkeys(OTHERS, 0.5))
    return [
        *(task for tasks in _imitations(setting).values() for task in tasks),
        *(task for tasks in trajectories.values() for task in tasks),
    ]


def run(setting: Setting, perform: Perform) -> Results:
    """Perform the tasks."""
    imitations = perform_groups(_imitations(setting), perform)
    factors = {rule: _middle(imitations[rule]) for rule in OTHERS}
    records = perform_groups(_trajectories(setting, factors), perform)
    ways = {key: _ways(found) for key, found in records.items()}
    return Results(
        data=setting.data,
        scale=scale_of(setting),
        imitations=imitations,
        same={(rule, dtype): ways[rule, dtype, "same"] for rule in RULES for dtype in DTYPES},
        control={(rule, dtype): ways[rule, dtype, "control"] for rule in RULES for dtype in DTYPES},
        best={rule: ways[rule, "float64", "best"] for rule in OTHERS},
    )


def perform_groups(groups: dict[K, list[T]], perform: Perform) -> dict[K, list[Record]]:
    """Perform groups of tasks all at once, and return the records of each group."""
    records = iter(perform([task for tasks in groups.values() for task in tasks]))
    return {key: [next(records) for _ in tasks] for key, tasks in groups.items()}


def _imitations(setting: Setting) -> dict[str, list[Imitation]]:
    steps, seeds = scale_of(setting).steps, range(scale_of(setting).seeds)
    return {
        rule: [Imitation(setting.data, rule, "float64", SHRINKAGE, steps, seed) for seed in seeds]
        for rule in RULES
    }


def _trajectories(
    setting: Setting, factors: dict[str, float]
) -> dict[tuple[str, str, str], list[Trajectory]]:
    def over_seeds(rule: str, dtype: str, **kind: Any) -> list[Trajectory]:
        steps, seeds = scale_of(setting).steps, range(scale_of(setting).seeds)
        return [
            Trajectory(setting.data, rule, dtype, SHRINKAGE, steps, seed, **kind) for seed in seeds
        ]

    tasks = {}
    for rule in RULES:
        for dtype in DTYPES:
            tasks[rule, dtype, "same"] = over_seeds(rule, dtype)
            tasks[rule, dtype, "control"] = over_seeds(rule, dtype, control=True)
    for rule, factor in factors.items():
        tasks[rule, "float64", "best"] = over_seeds(rule, "float64", factor=factor)
    return tasks


def _ways(records: list[Record]) -> Ways:
    distance = np.array([record["distance"] for record in records])
    return Ways(records[0]["steps"], distance, records[0]["paths"])


def _middle(records: list[Record]) -> float:
    """Return the geometric mean, in three digits: it is a value that tasks are found by."""
    return float(f"{stats.gmean([record['best_factor'] for record in records]):.3g}")


def method(results: Results) -> str:
    """Return how it was done."""
    return (
        f"The multilayer perceptron is trained on {SIZE} pictures of {results.data} for "
        f"{results.scale.steps} steps of {BATCH_SIZE}, at a fixed learning rate, from the same "
        f"weights on the same batches, with {results.scale.seeds} seeds. In thalweg's numbers "
        "the penalty adds l2·p to the gradient and decoupled decay takes lr·decay·p away (the "
        "paper's λ is lr·decay), so without momentum l2 = decay should be the same. Decay is as "
        f"strong for all rules: it takes {SHRINKAGE:.1%} of the weights in a step. With momentum "
        "0.9 the learning rate is a tenth, which moves the weights as far under a gradient that "
        "stays the same; the penalty goes through the momentum and counts ten times. A distance is "
        "over all parameters, relative to the root mean square of the ways that the two have come "
        "from the start. The control trains with decoupled decay twice, once with each first "
        "weight moved by one unit in the last place, and so shows what rounding grows to. The "
        "best penalty is sought, for each rule and seed, by a grid over its logarithm and a "
        "bounded search around the best, for the smallest distance from where decay ends; that "
        "distance is told in units of how far decay ends from no decay. Momentum and Adam are "
        "also followed with that penalty, the geometric mean over the seeds."
    )

"""Two tasks that follow weights: how far from decoupled decay a penalty leads.

Both train the multilayer perceptron more than once from the same weights on the same batches, at a
fixed learning rate. All parameters count in a distance, those that are spared the decay too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy import optimize

import thalweg
from thalweg_study import data
from thalweg_study.methods import SPARED
from thalweg_study.models import MODELS
from thalweg_study.schedules import MOMENTUM

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalweg_study.models import Floats
    from thalweg_study.task import Record

SIZE = 300
BATCH_SIZE = 32
SECONDS_A_STEP = {
    ("digits", "float32"): 1.6e-4,
    ("digits", "float64"): 2e-4,
    ("mnist5k", "float32"): 6e-4,
    ("mnist5k", "float64"): 8e-4,
}


@dataclass(frozen=True)
class Rule:
    """A rule with either kind of decay, each built from parameters, learning rate and strength."""

    label: str
    lr: float
    penalised: Callable[[Any, float, float], thalweg.Optimizer]
    decoupled: Callable[[Any, float, float], thalweg.Optimizer]


def _descent(label: str, lr: float, momentum: float) -> Rule:
    def penalised(params: Any, lr: float, l2: float) -> thalweg.Optimizer:
        return thalweg.SGD(params, lr, momentum=momentum, l2=l2, groups=SPARED)

    def decoupled(params: Any, lr: float, decay: float) -> thalweg.Optimizer:
        return thalweg.SGDW(params, lr, momentum=momentum, weight_decay=decay, groups=SPARED)

    return Rule(label, lr, penalised, decoupled)


def _adam(params: Any, lr: float, l2: float) -> thalweg.Optimizer:
    return thalweg.Adam(params, lr, l2=l2, groups=SPARED)


def _adamw(params: Any, lr: float, decay: float) -> thalweg.Optimizer:
    return thalweg.AdamW(params, lr, weight_decay=decay, groups=SPARED)


RULES = {
    "sgd": _descent("SGD", 0.1, 0.0),
    # Under a gradient that stays the same it moves as far a step as the one without momentum.
    "momentum": _descent("SGD with momentum", 0.1 * (1 - MOMENTUM), MOMENTUM),
    "adam": Rule("Adam", 3e-3, _adam, _adamw),
}


@dataclass(frozen=True)
class Trajectory:
    """A rule with decoupled decay, and beside it the same rule with a penalty, or once more.

    The record has ``distance`` at some ``steps``, evenly on a logarithmic scale, and at the
    ``end``: ``|a-b|`` over the root mean square of ``|a-start|`` and ``|b-start|``. In ``paths``
    are both ways, the decoupled one first, as ``[[x, y], ...]`` from the start: in the plane of
    the principal components of the two, taken from the start.
    """

    kind: ClassVar[str] = "trajectory"

    data: str
    rule: str
    dtype: str
    shrinkage: float
    """The share of the weights that decoupled decay takes away in a step: ``lr·weight_decay``."""

    steps: int
    seed: int
    factor: float = 1.0
    """The penalty in units of ``weight_decay``."""

    control: bool = False
    """The second is the first again, each weight of its start one unit in the last place off."""

    @property
    def cost(self) -> float:
        """About how many seconds it takes."""
        return 2 * self.steps * SECONDS_A_STEP[self.data, self.dtype]

    def perform(self) -> Record:
        """Train both, side by side."""
        course = _Course(self.data, self.dtype, self.steps, self.seed)
        rule = RULES[self.rule]
        strength = self.shrinkage / rule.lr
        one = course.run(rule.decoupled, rule.lr, strength)
        if self.control:
            other = course.run(rule.decoupled, rule.lr, strength, nudged=True)
        else:
            other = course.run(rule.penalised, rule.lr, self.factor * strength)
        looks = np.unique(np.geomspace(1, self.steps, 40).round().astype(int))
        marks = np.unique(np.linspace(1, self.steps, 60).round().astype(int))
        distances, ways = [], []
        for step in range(1, self.steps + 1):
            one.advance()
            other.advance()
            if step in looks:
                distances.append(_relative(one.way(), other.way()))
            if step in marks:
                ways.append((one.way(), other.way()))
        return {
            "steps": looks.tolist(),
            "distance": distances,
            "end": distances[-1],
            "paths": _in_plane(np.array(ways)),
        }


@dataclass(frozen=True)
class Imitation:
    """The strength of penalty that ends nearest to where decoupled decay ends.

    A distance is told in the effect of the decay, ``|a-b| / |a-n|``: ``a`` is where decoupled
    decay ends, ``b`` where the penalty does, ``n`` where training without either does. So 0 is
    perfect imitation and 1 is no better than no penalty. The record has the ``distance`` for
    ``factors``, the penalty in units of the decay, and the ``best_factor`` with the ``smallest``
    distance of a search around the best of them.
    """

    kind: ClassVar[str] = "imitation"

    data: str
    rule: str
    dtype: str
    shrinkage: float
    """As in `Trajectory`."""

    steps: int
    seed: int
    lowest: float = -4.0
    """Decimal logarithm of the first factor; the last is ``highest``."""

    highest: float = 0.5
    a_decade: int = 2
    """Factors in a decade."""

    searches: int = 10
    """Penalties that are tried around the best factor."""

    @property
    def cost(self) -> float:
        """About how many seconds it takes."""
        runs = 2 + self._count + self.searches
        return runs * self.steps * SECONDS_A_STEP[self.data, self.dtype]

    @property
    def _count(self) -> int:
        return round((self.highest - self.lowest) * self.a_decade) + 1

    def perform(self) -> Record:
        """Train with decay, without, and with one penalty after the other."""
        course = _Course(self.data, self.dtype, self.steps, self.seed)
        rule = RULES[self.rule]
        strength = self.shrinkage / rule.lr
        decayed = course.run(rule.decoupled, rule.lr, strength).to_the_end()
        effect = float(
            np.linalg.norm(decayed - course.run(rule.decoupled, rule.lr, 0.0).to_the_end())
        )

        def distance(exponent: float) -> float:
            run = course.run(rule.penalised, rule.lr, 10**exponent * strength)
            return float(np.linalg.norm(decayed - run.to_the_end())) / effect

        exponents = np.linspace(self.lowest, self.highest, self._count)
        distances = [distance(exponent) for exponent in exponents]
        best = int(np.argmin(distances))
        around = exponents[best] + np.array([-1, 1]) / self.a_decade
        found = optimize.minimize_scalar(
            distance, bounds=around, method="bounded", options={"maxiter": self.searches}
        )
        exponent, smallest = min(
            (float(found.x), float(found.fun)),
            (float(exponents[best]), distances[best]),
            key=lambda pair: pair[1],
        )
        return {
            "factors": (10**exponents).tolist(),
            "distance": distances,
            "best_factor": 10**exponent,
            "smallest": smallest,
        }


class _Course:
    """Pictures, batches and first weights, which all runs of a task share."""

    def __init__(self, name: str, dtype: str, steps: int, seed: int) -> None:
        self.samples = data.load(name, SIZE, seed).train
        self.pictures = self.samples.pictures.astype(dtype)
        self.model = MODELS["mlp"](*self.pictures.shape[1:])
        self.dtype, self.seed = dtype, seed
        generator = np.random.default_rng((seed, 1))
        epochs = math.ceil(steps * BATCH_SIZE / SIZE)
        self.batches = [
            order[start : start + BATCH_SIZE]
            for order in (generator.permutation(SIZE) for _ in range(epochs))
            for start in range(0, SIZE, BATCH_SIZE)
        ][:steps]

    def run(
        self,
        build: Callable[[Any, float, float], thalweg.Optimizer],
        lr: float,
        strength: float,
        *,
        nudged: bool = False,
    ) -> _Run:
        parameters = self.model.initial(np.random.default_rng(self.seed), self.dtype)
        start = _flat(parameters)
        if nudged:
            for layer in parameters.values():
                layer["w"][...] = np.nextafter(layer["w"], np.inf, dtype=self.dtype)
        return _Run(self, parameters, build(parameters, lr, strength), start)


class _Run:
    """One network on its way."""

    def __init__(
        self, course: _Course, parameters: Any, optimizer: thalweg.Optimizer, start: Floats
    ) -> None:
        self.course, self.parameters, self.optimizer = course, parameters, optimizer
        self.start = start

    def advance(self) -> None:
        course = self.course
        rows = course.batches[self.optimizer.step_count]
        _, gradients = course.model.loss_and_gradients(
            self.parameters, course.pictures[rows], course.samples.labels[rows]
        )
        self.optimizer.step(gradients)

    def way(self) -> Floats:
        """Return how far each parameter has come."""
        return _flat(self.parameters) - self.start

    def to_the_end(self) -> Floats:
        for _ in self.course.batches:
            self.advance()
        return self.way()


def _flat(parameters: Any) -> Floats:
    arrays = [array.ravel() for layer in parameters.values() for array in layer.values()]
    return np.concatenate(arrays, dtype=np.float64)


def _relative(one: Floats, other: Floats) -> float:
    come = math.sqrt((one @ one + other @ other) / 2)
    return float(np.linalg.norm(one - other)) / come


def _in_plane(ways: Floats) -> list[list[list[float]]]:
    """Project two ways, (steps, two, parameters), on their principal components."""
    steps, two, _ = ways.shape
    together = ways.reshape(steps * two, -1)
    # Points are far fewer than parameters, and their products with each other tell the same.
    variances, vectors = np.linalg.eigh(together @ together.T)
    projected = vectors[:, :-3:-1] * np.sqrt(np.maximum(variances[:-3:-1], 0))
    projected *= np.where(projected[-1] < 0, -1, 1)
    paths = projected.reshape(steps, two, 2).transpose(1, 0, 2)
    return [[[0.0, 0.0], *path] for path in paths.tolist()]

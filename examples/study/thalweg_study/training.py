"""The usual task: train a network once, and look at it now and then."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

import thalweg
from thalweg_study import data
from thalweg_study.methods import METHODS
from thalweg_study.models import MODELS
from thalweg_study.models.layers import cross_entropy
from thalweg_study.schedules import SCHEDULES

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from thalweg_study.task import Record

CHANCE = {"loss": math.log(10), "error": 0.9}
"""Loss and error of a network that guesses, for runs that stopped."""

PARTS = ("train", "validation", "test")
GUESS = {f"{part}_{name}": value for part in PARTS for name, value in CHANCE.items()}
"""Results of a look at such a network."""


class Pace(NamedTuple):
    """About how many seconds it takes to begin, for a step, and for a look at all pictures."""

    start: float
    step: float
    look: float


PACES = {
    ("digits", "mlp"): Pace(4e-3, 1.2e-4, 1.3e-3),
    ("digits", "conv"): Pace(4e-3, 4e-4, 4e-3),
    ("mnist5k", "mlp"): Pace(3e-2, 5e-4, 1.6e-2),
    ("mnist5k", "conv"): Pace(3e-2, 3.5e-3, 0.21),
}
"""By data and model, on one core of an AMD EPYC."""


@dataclass(frozen=True)
class Training:
    """One run: a network, a method, two numbers to tune, a schedule, a budget and a seed.

    The seed determines which pictures are trained on, the first weights and the batches, so that
    runs of one seed that differ in nothing but the method are pairs.

    The record has ``train_loss``, ``train_error``, ``validation_loss``, ``validation_error``,
    ``test_loss`` and ``test_error`` at the end, and the same names with ``epoch`` in ``curves``;
    ``steps``, ``gradient_seconds`` and ``optimizer_seconds`` in all; and ``stopped``, the step
    whose gradient was not finite or after which a loss was not, or None. From there on, a run that
    stopped knows as much as one that guesses: all its numbers are finite, its curves complete.
    """

    kind: ClassVar[str] = "training"

    data: str
    model: str
    method: str
    lr: float
    decay: float
    epochs: int
    seed: int
    schedule: str = "cosine"
    size: int = 300
    """Pictures to train on."""

    batch_size: int = 32
    looks: int = 0
    """How many times to look at the network on the way, evenly spaced; at the end it is always."""

    @property
    def cost(self) -> float:
        """About how many seconds it takes."""
        pace = PACES[self.data, self.model]
        looks = len({*self._epochs_to_look(), self.epochs})
        return pace.start + self.steps * pace.step + looks * pace.look

    @property
    def steps(self) -> int:
        """How many updates there are."""
        return self.epochs * math.ceil(self.size / self.batch_size)

    def perform(self) -> Record:
        """Train."""
        trainee = _Trainee(self)
        due = self._epochs_to_look()
        found: dict[int, dict[str, float]] = {}
        stopped = None
        # A run that diverges overflows on its way; thalweg reports it, NumPy need not warn as well.
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            try:
                for epoch in range(1, self.epochs + 1):
                    trainee.train_one_epoch()
                    if epoch == self.epochs or epoch in due:
                        found[epoch] = trainee.look()
            except (thalweg.NonFiniteError, _NonFiniteLossError) as error:
                stopped = error.step
        curve = [found.get(epoch, GUESS) for epoch in due]
        return {
            **found.get(self.epochs, GUESS),
            "steps": trainee.optimizer.step_count,
            "gradient_seconds": trainee.gradient_seconds,
            "optimizer_seconds": trainee.optimizer_seconds,
            "stopped": stopped,
            "curves": {"epoch": due, **{name: [look[name] for look in curve] for name in GUESS}},
        }

    def _epochs_to_look(self) -> list[int]:
        evenly = (self.epochs * (i + 1) / self.looks for i in range(self.looks))
        return sorted({max(1, round(epoch)) for epoch in evenly})


class _NonFiniteLossError(Exception):
    def __init__(self, step: int) -> None:
        super().__init__(f"a loss after step {step} is not finite")
        self.step = step


class _Trainee:
    """A network on its way."""

    def __init__(self, task: Training) -> None:
        self.split = data.load(task.data, task.size, task.seed)
        self.model = MODELS[task.model](*self.split.train.pictures.shape[1:])
        self.generator = np.random.default_rng(task.seed)
        self.parameters = self.model.initial(self.generator)
        eta = SCHEDULES[task.schedule](task.steps)
        self.optimizer = METHODS[task.method].build(self.parameters, task.lr, task.decay, eta)
        self.batch_size = task.batch_size
        self.gradient_seconds = self.optimizer_seconds = 0.0

    def train_one_epoch(self) -> None:
        train = self.split.train
        order = self.generator.permutation(len(train.labels))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            begun = perf_counter()
            _, gradients = self.model.loss_and_gradients(
                self.parameters, train.pictures[rows], train.labels[rows]
            )
            ready = perf_counter()
            self.optimizer.step(gradients)
            self.optimizer_seconds += perf_counter() - ready
            self.gradient_seconds += ready - begun

    def look(self) -> dict[str, float]:
        found = {}
        with _evaluation(self.optimizer):
            for part in PARTS:
                samples = getattr(self.split, part)
                log_probabilities = self.model.log_probabilities(self.parameters, samples.pictures)
                found[f"{part}_loss"] = cross_entropy(log_probabilities, samples.labels)
                wrong = log_probabilities.argmax(axis=1) != samples.labels
                found[f"{part}_error"] = float(wrong.mean())
        if not np.isfinite(list(found.values())).all():
            raise _NonFiniteLossError(self.optimizer.step_count)
        return found


def _evaluation(optimizer: thalweg.Optimizer) -> AbstractContextManager[Any]:
    """Return a context in which the parameters are those to use, not those to train."""
    if isinstance(optimizer, thalweg.ScheduleFreeAdamW):
        return optimizer.averaged()
    return nullcontext()

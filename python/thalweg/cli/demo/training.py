"""One training run. A seed gives the same weights and batches to every optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

import thalweg
from thalweg.cli.demo import network
from thalweg.cli.demo.schedules import SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from thalweg.cli.demo.digits import Digits, Samples
    from thalweg.cli.demo.network import Integers, Parameters
    from thalweg.cli.demo.recipes import Recipe
    from thalweg.schedule import Schedule


@dataclass(frozen=True)
class Plan:
    """The settings shared by all runs."""

    epochs: int
    batch_size: int
    seed: int
    schedule: str

    def steps(self, digits: Digits) -> int:
        """Return the number of steps of a run."""
        return self.epochs * math.ceil(len(digits.train.labels) / self.batch_size)

    def factor(self, digits: Digits) -> Schedule:
        """Return the factor on the learning rate at every step."""
        return SCHEDULES[self.schedule](self.steps(digits))


@dataclass(frozen=True)
class Stop:
    """The step and the tensors of a gradient that is non-finite or too large."""

    step: int
    tensors: tuple[str, ...]

    def __str__(self) -> str:
        return f"stopped at step {self.step}"


@dataclass
class Run:
    """Results of one optimizer. The curves begin before the first step."""

    recipe: Recipe
    train_losses: list[float] = field(default_factory=list)
    test_accuracies: list[float] = field(default_factory=list)
    gradient_seconds: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    stop: Stop | None = None


def train(recipe: Recipe, digits: Digits, plan: Plan, after_epoch: Callable[[Run], None]) -> Run:
    """Train the network with one optimizer; call ``after_epoch`` after every epoch."""
    generator = np.random.default_rng(plan.seed)
    parameters = network.initial(generator)
    optimizer = recipe.build(parameters, recipe.lr * plan.factor(digits), recipe.decay)
    run = Run(recipe)
    # A diverging run overflows. thalweg reports it, so warnings of NumPy are not needed.
    with np.errstate(over="ignore", invalid="ignore"):
        _evaluate(run, parameters, digits)
        for _ in range(plan.epochs):
            batches = _batches(len(digits.train.labels), plan.batch_size, generator)
            try:
                _train_one_epoch(run, parameters, optimizer, digits.train, batches)
            except thalweg.NonFiniteError as error:
                run.stop = Stop(error.step, tuple(error.nonfinite))
                return run
            _evaluate(run, parameters, digits)
            after_epoch(run)
    return run


def _train_one_epoch(
    run: Run,
    parameters: Parameters,
    optimizer: thalweg.Optimizer,
    samples: Samples,
    batches: Iterator[Integers],
) -> None:
    for rows in batches:
        begun = perf_counter()
        gradients = network.gradients(parameters, samples.pixels[rows], samples.labels[rows])
        ready = perf_counter()
        optimizer.step(gradients)
        done = perf_counter()
        run.gradient_seconds.append(ready - begun)
        run.step_seconds.append(done - ready)


def _batches(count: int, size: int, generator: np.random.Generator) -> Iterator[Integers]:
    order = generator.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]


def _evaluate(run: Run, parameters: Parameters, digits: Digits) -> None:
    train, test = digits.train, digits.test
    log_probabilities = network.log_probabilities(parameters, train.pixels)
    run.train_losses.append(network.cross_entropy(log_probabilities, train.labels))
    right = network.log_probabilities(parameters, test.pixels).argmax(axis=1) == test.labels
    run.test_accuracies.append(float(right.mean()))

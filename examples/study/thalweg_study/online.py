"""The task in which Adam goes to the worst point of all: one number, learned online.

Reddi, Kale and Kumar, *On the Convergence of Adam and Beyond*, section 5: on [-1, 1], the loss of
step ``t`` is ``1010·x`` if ``t mod 101 = 1``, else ``-10·x``; or, in the stochastic version,
``1010·x`` with probability 0.01. The best fixed point of both is -1. The steps are thalweg's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

import thalweg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from thalweg_study.task import Record

RARE, COMMON = 1010.0, -10.0
PERIOD = 101
PROBABILITY = 0.01
EPS = 1e-120
"""The smallest that thalweg takes; the paper has none."""

SECONDS_A_STEP = 7e-6
BLOCK = 10_000
"""Steps whose gradients are drawn and whose points are kept at once."""


@dataclass(frozen=True)
class Online:
    """Adam or AMSGrad on the counter-example, from 0, with step size ``alpha/√t``.

    The record has, at some ``steps`` evenly on a logarithmic scale, a row for every copy: the
    point ``x`` that the loss of that step is measured at, and ``regret``, the average so far of
    what ``x`` loses against -1. In the stochastic version that is the expected loss,
    ``0.2·(x + 1)``: the drawn one has the same mean and hides it in noise. Over all copies,
    ``last`` is the mean of ``x`` in the last tenth of the steps, ``final_regret`` that of
    ``regret`` at the end; ``lasts`` has the former for each copy.
    """

    kind: ClassVar[str] = "online"

    amsgrad: bool
    stochastic: bool
    steps: int
    seed: int = 0
    """Of the stochastic version."""

    copies: int = 1
    """Independent runs, each an element of one array: the rules work element by element."""

    alpha: float = 0.5
    beta1: float = 0.9
    beta2: float = 0.99
    corrected: bool = False
    """Whether thalweg's correction of the bias stays; the paper has none."""

    @property
    def cost(self) -> float:
        """About how many seconds it takes."""
        return self.steps * SECONDS_A_STEP

    def perform(self) -> Record:
        """Take the steps."""
        looks = np.unique(np.geomspace(1, self.steps, 300).round().astype(int))
        lasting = self.steps - self.steps // 10
        total, last = np.zeros(self.copies), np.zeros(self.copies)
        points, regrets = [], []
        done = 0
        expected = PROBABILITY * RARE + (1 - PROBABILITY) * COMMON
        for x, slopes in self._blocks():
            lost = (expected if self.stochastic else slopes) * (x + 1)
            sums = total + np.cumsum(lost, axis=0)
            total = sums[-1]
            here = looks[(looks > done) & (looks <= done + len(x))] - done - 1
            points.append(x[here])
            regrets.append(sums[here] / (done + 1 + here)[:, None])
            last += x[max(lasting - done, 0) :].sum(axis=0)
            done += len(x)
        last /= self.steps - lasting
        return {
            "steps": looks.tolist(),
            "x": np.concatenate(points).T.tolist(),
            "regret": np.concatenate(regrets).T.tolist(),
            "last": float(last.mean()),
            "lasts": last.tolist(),
            "final_regret": float(total.mean() / self.steps),
        }

    def _blocks(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Yield points before their steps, and the slopes of their losses, (steps, copies)."""
        x = np.zeros(self.copies)
        optimizer = thalweg.Adam(
            x,
            self._rate() if not self.corrected else lambda t: self.alpha / math.sqrt(t),
            betas=(self.beta1, self.beta2),
            eps=EPS,
            amsgrad=self.amsgrad,
        )
        generator = np.random.default_rng(self.seed)
        for start in range(0, self.steps, BLOCK):
            count = min(BLOCK, self.steps - start)
            slopes = self._slopes(start, count, generator)
            points = np.empty((count, self.copies))
            for point, slope in zip(points, slopes, strict=True):
                point[...] = x
                optimizer.step(slope)
                np.clip(x, -1.0, 1.0, out=x)
            yield points, slopes

    def _slopes(
        self, start: int, count: int, generator: np.random.Generator
    ) -> NDArray[np.float64]:
        if self.stochastic:
            rare = generator.random((count, self.copies)) < PROBABILITY
        else:
            steps = np.arange(start + 1, start + count + 1)
            rare = np.repeat((steps % PERIOD == 1)[:, None], self.copies, axis=1)
        return np.where(rare, RARE, COMMON)

    def _rate(self) -> Callable[[int], float]:
        """Return the learning rate at which thalweg's steps are those without bias correction."""
        log1, log2 = math.log(self.beta1), math.log(self.beta2)

        def rate(t: int) -> float:
            undo = -math.expm1(t * log1) / math.sqrt(-math.expm1(t * log2))
            return self.alpha / math.sqrt(t) * undo

        return rate

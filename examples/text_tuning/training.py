"""The two training runs: the head alone, and the head together with the LoRA of the last layer.

Both optimizers get the whole tree of parameters, with the frozen layer; groups select what trains.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import head
import lora
from minilm import pad

import thalweg
from thalweg import schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from layers import Floats
    from numpy.typing import NDArray

    Labels = NDArray[np.intp]
    Gradients = Callable[[NDArray[np.intp]], tuple[float, dict[str, Any]]]

FROZEN = {"match": "*", "frozen": True}
HEAD = {"match": "head.*", "frozen": False}
LORA = {"match": "lora.*", "frozen": False, "lr_scale": 0.3, "weight_decay": 0.0}
LR = 0.02
HEAD_STEPS, HEAD_BATCH = 500, 128
LORA_BATCH = 16


@dataclass
class Run:
    """The number of trained parameters, the batch size, and the times of the steps."""

    trained: int
    batch: int
    gradient_seconds: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.step_seconds)

    @property
    def milliseconds(self) -> tuple[float, float]:
        """Median times of forward and backward pass, and of the optimizer's step."""
        return 1e3 * median(self.gradient_seconds), 1e3 * median(self.step_seconds)


def train_head(
    params: dict[str, Any], embeddings: Floats, labels: Labels, generator: np.random.Generator
) -> Run:
    """Train ``params["head"]`` on fixed embeddings."""

    def gradients(rows: NDArray[np.intp]) -> tuple[float, dict[str, Any]]:
        loss, slope, _ = head.loss_and_gradients(params["head"], embeddings[rows], labels[rows])
        return loss, {"head": slope}

    opt = thalweg.AdamW(params, lr=LR * schedule.cosine(HEAD_STEPS), groups=[FROZEN, HEAD])
    return _train(opt, gradients, batches(len(labels), HEAD_BATCH, HEAD_STEPS, generator))


def train_head_and_lora(
    params: dict[str, Any],
    states: list[Floats],
    labels: Labels,
    generator: np.random.Generator,
    *,
    steps: int,
    done: Callable[[float], Any] = lambda _: None,
) -> Run:
    """Train ``params["head"]`` and ``params["lora"]`` on `states`, the inputs of the last layer.

    `done` is called after each step with its loss.
    """

    def gradients(rows: NDArray[np.intp]) -> tuple[float, dict[str, Any]]:
        kept = lora.embed(params, *pad([states[i] for i in rows]))
        loss, slope, below = head.loss_and_gradients(params["head"], kept.embeddings, labels[rows])
        return loss, {"head": slope, "lora": lora.gradients(params, kept, below)}

    lr = LR * schedule.cosine(steps, warmup=steps // 10)
    opt = thalweg.AdamW(params, lr=lr, groups=[FROZEN, HEAD, LORA])
    return _train(opt, gradients, batches(len(labels), LORA_BATCH, steps, generator), done)


def _train(
    opt: thalweg.AdamW,
    gradients: Gradients,
    order: Iterator[NDArray[np.intp]],
    done: Callable[[float], Any] = lambda _: None,
) -> Run:
    trained = (a.size for name, a in opt.params.items() if not opt.resolve(name)["frozen"])
    run = Run(sum(trained), batch=0)
    for rows in order:
        begun = perf_counter()
        loss, grads = gradients(rows)
        ready = perf_counter()
        opt.step(grads, max_norm=1.0)  # frozen parameters need no gradient
        run.step_seconds.append(perf_counter() - ready)
        run.gradient_seconds.append(ready - begun)
        run.batch = len(rows)
        done(loss)
    return run


def batches(
    documents: int, size: int, count: int, generator: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
    """`count` batches. Documents repeat only after a pass; its remainder is dropped."""
    size = min(size, documents)
    order = generator.permutation(documents)
    for _ in range(count):
        if len(order) < size:
            order = generator.permutation(documents)
        yield order[:size]
        order = order[size:]

"""Full tuning in four formats of weights and state, each run in a process of its own."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import display
import full
import head
import minilm
import numpy as np
from training import batches

import thalweg
from thalweg import schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layers import Floats
    from numpy.typing import NDArray
    from reuters import Corpus

BATCH = 16
HEAD = {"match": "head.*", "lr_scale": 20.0, "state": "full"}


@dataclass(frozen=True)
class Format:
    """How weights and their state are kept."""

    label: str
    bfloat16: bool
    state: Literal["full", "bfloat16", "compact"]
    companion: bool = True
    """Whether `low` keeps what the bfloat16 weights lack."""


FORMATS = (
    Format("float32", bfloat16=False, state="full"),
    Format("float32, compact state", bfloat16=False, state="compact"),
    Format("bfloat16, compact state", bfloat16=True, state="compact"),
    Format("the same without low", bfloat16=True, state="compact", companion=False),
)


@dataclass(frozen=True)
class Task:
    """Word pieces and topics to train on and to score on, and the start of the classifier."""

    documents: list[NDArray[np.int64]]
    labels: NDArray[np.intp]
    scored: list[NDArray[np.int64]]
    scored_labels: NDArray[np.intp]
    head: dict[str, Floats]
    steps: int
    rate: float
    seed: int


@dataclass
class Run:
    """What a run reached, what it held, and the times of its steps."""

    format: Format
    accuracy: float = 0.0
    loss: float = 0.0
    """Mean over the last tenth of the steps."""
    bytes_a_weight: float = 0.0
    """Of the weight with `low`, its gradient, and its moments, without the classifier's."""
    peak: int | None = None
    """Largest resident memory of the process in training, in bytes, where Linux tells it."""
    gradient_seconds: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)

    @property
    def milliseconds(self) -> tuple[float, float]:
        """Median times of forward and backward pass, and of the optimizer's step."""
        return 1e3 * median(self.gradient_seconds), 1e3 * median(self.step_seconds)


def compare(
    corpora: Sequence[tuple[Corpus, Corpus]],
    classes: int,
    *,
    tokens: int,
    steps: int,
    rate: float,
) -> list[Run]:
    """Train in every format on every pair of corpora, the seeds; print a table."""
    tasks = [
        _task(*corpus, classes, tokens=tokens, steps=steps, rate=rate, seed=seed)
        for seed, corpus in enumerate(corpora)
    ]
    jobs = [(each, task) for task in tasks for each in FORMATS]
    # A process for each run: its peak memory is its own.
    with (
        display.bars() as shown,
        multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool,
    ):
        done = display.counting_bar(shown, "in all formats", len(jobs), "runs")
        runs = []
        for run in pool.imap(_train, jobs):
            runs.append(run)
            done(1)
    display.print_formats([[run for run in runs if run.format == each] for each in FORMATS])
    return runs


def _task(chosen: Corpus, scored: Corpus, classes: int, *, tokens: int, **rest: Any) -> Task:
    """A task whose classifier starts at the nearest centroid of the model before training."""
    documents = minilm.tokenize(chosen.texts, tokens)
    model = full.trainable(minilm.read_weights(), bfloat16=False)
    start = head.nearest_centroid(full.embed_all(model, documents), chosen.labels, classes)
    return Task(
        documents=documents,
        labels=chosen.labels,
        scored=minilm.tokenize(scored.texts, tokens),
        scored_labels=scored.labels,
        head=start,
        **rest,
    )


def _train(job: tuple[Format, Task]) -> Run:
    return train(*job)


def train(chosen: Format, task: Task) -> Run:
    """Tune all weights and the classifier."""
    generator = np.random.default_rng(task.seed)
    model = full.trainable(minilm.read_weights(), bfloat16=chosen.bfloat16)
    params = {"model": model, "head": {name: array.copy() for name, array in task.head.items()}}
    opt = thalweg.AdamW(
        params,
        lr=task.rate * schedule.cosine(task.steps, warmup=task.steps // 10),
        state=chosen.state,
        bfloat16="model.*" if chosen.bfloat16 else (),
        groups=[HEAD],
    )
    run = Run(chosen)
    losses = []
    for rows in batches(len(task.labels), BATCH, task.steps, generator):
        documents = [task.documents[i] for i in rows]
        losses.append(_step(run, opt, params, documents, task.labels[rows]))
        if not chosen.companion:
            forget(opt)
    run.loss = float(np.mean(losses[-max(1, len(losses) // 10) :]))
    run.peak = peak_memory()
    embeddings = full.embed_all(model, task.scored)
    run.accuracy = head.accuracy(params["head"], embeddings, task.scored_labels)
    return run


def _step(
    run: Run,
    opt: thalweg.AdamW,
    params: dict[str, Any],
    documents: list[NDArray[np.int64]],
    labels: NDArray[np.intp],
) -> float:
    """Take a step, whose gradients are then no longer held; add its times to `run`."""
    begun = perf_counter()
    kept = full.embed(params["model"], *minilm.pad(documents))
    loss, of_head, below = head.loss_and_gradients(params["head"], kept.embeddings, labels)
    grads = {"model": full.gradients(params["model"], kept, below), "head": of_head}
    del kept
    ready = perf_counter()
    opt.step(grads, max_norm=1.0)
    run.step_seconds.append(perf_counter() - ready)
    run.gradient_seconds.append(ready - begun)
    run.bytes_a_weight = bytes_a_weight(opt, grads, low=run.format.companion)
    return loss


def forget(opt: thalweg.AdamW) -> None:
    """Leave the nearest bfloat16 of each weight, as an optimizer without `low` does."""
    for arrays in opt.state.values():
        if "low" in arrays:
            arrays["low"][...] = 0


def bytes_a_weight(opt: thalweg.AdamW, grads: dict[str, Any], *, low: bool) -> float:
    """Bytes of the model's weights, gradients and state, divided by the number of weights."""
    left_out = {"step"} if low else {"step", "low"}
    names = [name for name in opt.params if name.startswith("model.")]
    arrays = [*thalweg.tree.flatten(grads["model"]).values()]
    for name in names:
        kept = [array for key, array in opt.state[name].items() if key not in left_out]
        arrays += [opt.params[name], *kept]
    total: int = sum(array.nbytes for array in arrays)
    return total / sum(opt.params[name].size for name in names)


def peak_memory() -> int | None:
    """Largest resident memory of this process so far, in bytes; None where it is not told."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return 1024 * int(kilobytes)

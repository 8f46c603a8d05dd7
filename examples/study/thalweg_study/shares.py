"""thalweg's share of the time: the optimizer against forward and backward."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING

from thalweg_study.claim import Table
from thalweg_study.methods import METHODS
from thalweg_study.models import MODELS
from thalweg_study.training import Training

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thalweg_study.ledger import Run

COLUMNS = ("model", "method", "runs", "forward and backward", "optimizer", "optimizer's share")


def table(runs: Iterable[Run]) -> Table | None:
    """Return medians over all training runs, by model and method; None if there are none."""
    times: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for run in runs:
        if run.kind == Training.kind and run.scalars["steps"]:
            gradient, optimizer = (
                run.scalars[f"{part}_seconds"] / run.scalars["steps"]
                for part in ("gradient", "optimizer")
            )
            times[run.settings["model"], run.settings["method"]].append((gradient, optimizer))
    if not times:
        return None
    caption = (
        "Time of a step with one thread, medians over training runs; as many run side by side as "
        "there are processes."
    )
    order = [(model, method) for model in MODELS for method in METHODS]
    return Table(caption, COLUMNS, tuple(_row(*pair, times[pair]) for pair in order if times[pair]))


def _row(model: str, method: str, times: list[tuple[float, float]]) -> tuple[str, ...]:
    gradients, optimizers = zip(*times, strict=True)
    share = median(optimizer / (gradient + optimizer) for gradient, optimizer in times)
    return (
        model,
        METHODS[method].label,
        f"{len(times):,}",
        f"{median(gradients) * 1e6:.0f} µs",
        f"{median(optimizers) * 1e6:.1f} µs",
        f"{share:.1%}",
    )

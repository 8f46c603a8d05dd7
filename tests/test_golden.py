"""Accuracy compared with torch: our float32 and torch's float32 against torch's float64, the truth.

An error is ``max |x - truth| / max(1, max |truth|)`` over one tensor at one stored step of one run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from arrays import Array

SHAPES = {"w": (17, 5), "b": (33,), "s": (), "c": (2, 3, 4)}
STORED = [1, 2, 10, 60]
GOLDEN = dict(np.load(Path(__file__).parent / "data" / "torch-2.13.npz"))
CONFIGS = [json.loads(config) for config in GOLDEN["config"]]
ADAM = [run for run, config in enumerate(CONFIGS) if "Adam" in config["kind"]]
SGD = [run for run, config in enumerate(CONFIGS) if config["kind"] == "SGD"]


def tensors(flat: Array) -> dict[str, Array]:
    """The tensors that are concatenated along the last axis."""
    ends = np.cumsum([int(np.prod(shape)) for shape in SHAPES.values()])
    parts = np.split(flat, ends[:-1], axis=-1)
    lead = flat.shape[:-1]
    return {n: x.reshape(lead + SHAPES[n]) for n, x in zip(SHAPES, parts, strict=True)}


def optimizer(params: dict[str, Array], config: dict[str, Any]) -> thalweg.Optimizer:
    options = dict(config)
    kind = options.pop("kind")
    if kind != "AdamW":
        options["l2"] = options.pop("weight_decay")
    return getattr(thalweg, kind)(params, **options)


def train(run: int, dtype: str) -> Iterator[thalweg.Optimizer]:
    """Yield the optimizer after each stored step."""
    params = {name: p.astype(dtype) for name, p in tensors(GOLDEN["init"][run]).items()}
    opt = optimizer(params, CONFIGS[run])
    for step, flat in enumerate(GOLDEN["grads"][run], start=1):
        opt.step(tensors(flat))
        if step in STORED:
            yield opt


def error(got: Mapping[str, Array], truth: Array) -> list[float]:
    return [
        float(np.abs(got[name] - x).max() / max(1.0, np.abs(x).max()))
        for name, x in tensors(truth).items()
    ]


def errors(run: int) -> tuple[Array, Array]:
    """Our errors and torch's in float32, by step and tensor."""
    truth, torch = GOLDEN["float64"][run], GOLDEN["float32"][run]
    ours = [error(opt.params, x) for opt, x in zip(train(run, "float32"), truth, strict=True)]
    theirs = [error(tensors(y), x) for y, x in zip(torch, truth, strict=True)]
    return np.array(ours), np.array(theirs)


@pytest.mark.parametrize("run", ADAM)
def test_adam_is_nowhere_less_accurate_than_torch(run: int) -> None:
    ours, theirs = errors(run)
    assert (ours <= theirs + 1.2e-7).all()


def test_adam_is_more_accurate_than_torch_on_average() -> None:
    ours, theirs = map(np.concatenate, zip(*map(errors, ADAM), strict=True))
    exact = (ours == 0.0) & (theirs == 0.0)  # both exact: counts as equal
    with np.errstate(divide="ignore"):
        ratios = np.log(np.where(exact, 1.0, ours) / np.where(exact, 1.0, theirs))
    assert np.exp(ratios.mean()) <= 0.9


@pytest.mark.parametrize("run", SGD)
def test_sgd_is_about_as_accurate_as_torch(run: int) -> None:
    ours, theirs = errors(run)
    assert (ours <= 1.5 * theirs + 1.2e-7).all()


@pytest.mark.parametrize("run", ADAM + SGD)
def test_float64_agrees_with_torch(run: int) -> None:
    for opt, truth in zip(train(run, "float64"), GOLDEN["float64"][run], strict=True):
        assert max(error(opt.params, truth)) <= 1e-12

    states = {name: dict(state) for name, state in opt.state.items()}
    assert {state.pop("step") for state in states.values()} == {60}
    keys = {key for key in GOLDEN if key not in {"config", "init", "grads", "float32", "float64"}}
    kept = {key for key in keys if not np.isnan(GOLDEN[key][run]).any()}
    assert {key for state in states.values() for key in state} == kept
    for key in kept:
        assert max(error({n: s[key] for n, s in states.items()}, GOLDEN[key][run])) <= 1e-12

"""Type hints accept every number that thalweg accepts at run time; mypy checks this file.

mypy must report an error on each line with ``type: ignore``.
"""

from __future__ import annotations

import contextlib
from fractions import Fraction

import numpy as np

import thalweg
from thalweg import EMA, SGD, SGDW, Accumulator, Adam, AdamW, functional, schedule

w = {"w": np.ones(3)}
g = {"w": np.ones(3)}
single, double, whole = np.float32(0.25), np.float64(0.25), np.int64(0)
place = np.array(0.25)
part = Fraction(1, 4)


def rate(step: int) -> np.float32:
    return np.float32(1.0 / step)


def test_hyperparameters_may_be_any_kind_of_number() -> None:
    AdamW(w, lr=single, betas=(single, double), eps=single, weight_decay=place)
    AdamW(w, lr=rate, betas=(rate, part), weight_decay=lambda _: single)
    Adam(w, lr=place, l2=part)
    SGD(w, lr=single, momentum=single, dampening=whole, l2=double)
    SGDW(w, lr=part, momentum=place, weight_decay=single)
    opt = AdamW(w, lr=0.1 * schedule.cosine(total=10))
    opt.lr = single
    opt.groups[0].weight_decay = single
    opt.step(g, max_norm=single, scale=place)
    opt.step(g, max_tensor_norm=double)
    opt.step(g, max_value=part)
    with opt.open_step() as step:
        step(g, scale=single)
    ema = EMA(w, decay=single)
    ema.decay = double
    Accumulator(w).add(g, weight=single)


def test_functions_accept_any_kind_of_number() -> None:
    p, m, v = (np.zeros(3) for _ in range(3))
    d = np.ones(3)
    betas = (single, double)
    functional.adamw(p, d, m, v, 1, lr=single, betas=betas, eps=single, weight_decay=single)
    functional.adam(p, d, m, v, 1, lr=place, l2=part, scale=single)
    functional.sgd(p, d, m, 1, lr=single, momentum=single, dampening=whole, l2=single)
    functional.sgdw(p, d, m, 1, lr=part, weight_decay=single)
    functional.decay(p, single)
    functional.clip_by_global_norm(w, np.float32(1.0))
    thalweg.normalized_decay(single, batch_size=128, samples=50_000, epochs=single)
    thalweg.averaging_time(single, place)
    thalweg.layerwise_lr("layers.{}", decay=single)
    product = single * schedule.cosine(total=10) * part + double
    assert product(1) == 0.25 * 0.25 + 0.25


def test_other_types_and_unknown_attributes_are_refused() -> None:
    opt = AdamW(w)
    with contextlib.suppress(TypeError):
        AdamW(w, lr="0.1")  # type: ignore[arg-type]
    with contextlib.suppress(TypeError):
        AdamW(w, betas=(0.9, None))  # type: ignore[arg-type]
    with contextlib.suppress(TypeError):
        opt.step(g, scale="1")  # type: ignore[arg-type]
    with contextlib.suppress(AttributeError):
        opt.learning_rate = 0.1  # type: ignore[attr-defined]

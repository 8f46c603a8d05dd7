"""Gradients with another order of axes in memory than their parameter give the same bits."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from arrays import machine

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPES = [(8, 8), (31, 700), (300, 270), (5, 40, 33), (2, 17, 1, 300), (3, 50_000), (20, 15_000)]


def layouts(g: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """The same numbers in every order of axes in memory: contiguous, reversed and unaligned."""
    for order in itertools.permutations(range(g.ndim)):
        back = np.argsort(order)
        yield np.ascontiguousarray(g.transpose(order)).transpose(back)
        yield np.ascontiguousarray(g.transpose(order)[::-1])[::-1].transpose(back)
        memory = np.empty(g.nbytes + 64, np.uint8)
        odd = memory[3 : 3 + g.nbytes].view(g.dtype).reshape(g.transpose(order).shape)
        odd[...] = g.transpose(order)
        yield odd.transpose(back)


def step(
    shape: tuple[int, ...], order: str, g: np.ndarray[Any, Any], **arguments: Any
) -> tuple[thalweg.StepReport, list[Any]]:
    rng = np.random.default_rng(1)
    p = np.asarray(rng.standard_normal(shape), np.float32, order=order)
    opt = thalweg.AdamW({"w": p})
    report = opt.step({"w": g}, **arguments)
    return report, [p, *(opt.state["w"][name] for name in ("exp_avg", "exp_avg_sq"))]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("level", thalweg.cpu_levels())
def test_every_order_of_axes_gives_the_same_bits(
    shape: tuple[int, ...], dtype: type, level: str
) -> None:
    g = np.random.default_rng(0).standard_normal(shape).astype(np.float32).astype(dtype)
    expected, arrays = step(shape, "C", g, max_norm=1.0)
    with machine(level):
        for gradient, order in itertools.product(layouts(g), "CF"):
            report, found = step(shape, order, gradient, max_norm=1.0)
            assert report == expected
            for one, other in zip(arrays, found, strict=True):
                assert np.array_equal(one, other)


@pytest.mark.parametrize("at", [(0, 0), (17, 200), (299, 269), (150, 0)])
def test_a_nan_is_found_in_every_order_of_axes(at: tuple[int, int]) -> None:
    g = np.ones((300, 270), np.float32)
    g[at] = np.nan
    for gradient in layouts(g):
        with pytest.raises(thalweg.NonFiniteError) as caught:
            step(g.shape, "C", gradient)
        assert caught.value.nonfinite == {"w": 1}

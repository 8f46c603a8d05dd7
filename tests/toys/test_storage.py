"""A storage that keeps float32 as two 16-bit halves gives the bits of float32 everywhere.

Only the table of storages names it, so these tests hold for any storage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from thalweg import SGD, SGDW, Adam, AdamW, functional
from toys import Toy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HALVES = np.dtype("u2,u2")
RULES: dict[str, Callable[..., thalweg.Optimizer]] = {
    "adam": lambda params: Adam(params, lr=0.1, l2=0.1, betas=(0.3, 0.9)),
    "adamw": lambda params: AdamW(params, lr=0.1, weight_decay=0.1),
    "amsgrad": lambda params: AdamW(params, lr=0.1, amsgrad=True, maximize=True),
    "sgd": lambda params: SGD(params, lr=0.1),
    "nesterov": lambda params: SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    "sgdw": lambda params: SGDW(params, lr=0.1, momentum=0.9, weight_decay=0.1, independent=True),
    "toy": lambda params: Toy(params, lr=0.1),
}
RNG = np.random.default_rng(1)


def in_a_field(x: Any) -> Any:
    """The elements as a misaligned field of records."""
    records = np.zeros(x.shape, [("before", "u1"), ("x", x.dtype)])
    records["x"] = x
    return records["x"]


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "contiguous": lambda x: x.copy(),
    "transposed": lambda x: x.T.copy().T,
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "sliced": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "field": in_a_field,
}


def halves(x: Any) -> Any:
    """Float32 numbers, each as two halves, the high half first."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    made = np.empty(np.shape(x), HALVES)
    made["f0"], made["f1"] = bits >> 16, bits & 0xFFFF
    return made


def whole(x: Any) -> Any:
    """Halves as float32."""
    return (x["f0"].astype(np.uint32) << 16 | x["f1"]).view(np.float32)


def numbers(*shape: int) -> Any:
    x = RNG.standard_normal(shape).astype(np.float32)
    x[RNG.random(shape) < 0.1] *= np.float32(1e-30)
    return x


def same(one: Any, other: Any) -> None:
    """Assert that halves and float32 have the same bits."""
    np.testing.assert_array_equal(
        whole(one).view(np.uint32), np.ascontiguousarray(other).view(np.uint32)
    )


def same_optimizers(one: thalweg.Optimizer, other: thalweg.Optimizer) -> None:
    for name, array in one.params.items():
        same(array, other.params[name])
        for key, state in one.state[name].items():
            if key != "step":
                assert state.dtype == HALVES
                same(state, other.state[name][key])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("threads", [1, 3])
def test_steps_have_the_bits_of_float32(rule: str, layout: str, threads: int) -> None:
    thalweg.set_num_threads(threads)
    lay = LAYOUTS[layout]
    values = {"w": numbers(37, 53), "v": numbers(400, 353)}
    opt = RULES[rule]({name: lay(halves(x)) for name, x in values.items()})
    plain = RULES[rule]({name: x.copy() for name, x in values.items()})
    for stats, turned in ((False, lay), (True, lay), (False, LAYOUTS["transposed"])):
        grads = {name: numbers(*x.shape) for name, x in values.items()}
        given = {name: turned(halves(g)) for name, g in grads.items()}
        report = opt.step(given, max_norm=30.0, stats=stats)
        assert report == plain.step(grads, max_norm=30.0, stats=stats)
    same_optimizers(opt, plain)


@pytest.mark.parametrize("level", thalweg.cpu_levels())
def test_every_cpu_level_and_gradient_dtype_has_the_bits_of_float32(level: str) -> None:
    thalweg.set_cpu_level(level)
    value = numbers(64, 300)
    opt, plain = AdamW({"w": halves(value)}), AdamW({"w": value})
    for dtype in (np.float32, np.float64):
        for gradient in (numbers(64, 300).astype(dtype), numbers(300, 64).astype(dtype).T):
            assert opt.step({"w": gradient}) == plain.step({"w": gradient})
    same_optimizers(opt, plain)
    other = AdamW({"w": np.ones((64, 300))})
    gradient = numbers(64, 300)
    assert other.step({"w": halves(gradient)}).grad_norm == functional.global_norm(gradient)


def test_a_nonfinite_gradient_is_detected() -> None:
    gradient = numbers(3, 5)
    gradient[1, 1] = np.nan
    with pytest.raises(thalweg.NonFiniteError, match="w \\(1\\)"):
        AdamW({"w": halves(numbers(3, 5))}).step({"w": halves(gradient)})


def test_functions_have_the_bits_of_float32() -> None:
    p, g, m, v = (numbers(50) for _ in range(4))
    v = np.abs(v)
    arrays = [halves(x) for x in (p, g, m, v)]
    assert functional.adamw(*arrays, 3, lr=0.1)
    assert functional.adamw(p, g, m, v, 3, lr=0.1)
    for one, other in zip(arrays, (p, g, m, v), strict=True):
        same(one, other)
    functional.decay(arrays[0], 0.25)
    functional.decay(p, 0.25)
    same(arrays[0], p)
    assert functional.global_norm(arrays[1]) == functional.global_norm(g)
    with pytest.raises(TypeError, match="exp_avg must have the dtype of its parameter, float32"):
        functional.adamw(p, g, halves(m), v, 3, lr=0.1)


def test_sums_and_averages_have_the_bits_of_float32() -> None:
    values, grads = {"w": numbers(7, 9)}, {"w": numbers(7, 9)}
    opt, plain = AdamW({"w": halves(values["w"])}), AdamW({"w": values["w"].copy()})
    sums, averages = [], []
    for one, gradient in ((opt, halves(grads["w"])), (plain, grads["w"])):
        sums.append(thalweg.Accumulator(one))
        averages.append(thalweg.EMA(one, decay=0.9))
        sums[-1].add({"w": gradient}, weight=3)
        sums[-1].add({"w": gradient})
        one.step(sums[-1].grads, scale=0.25)
        averages[-1].update()
    same(*(a.grads["w"] for a in sums))
    same(*(a.params["w"] for a in averages))
    with averages[0].swapped(), averages[1].swapped():
        same(opt.params["w"], plain.params["w"])
    same_optimizers(opt, plain)


@pytest.mark.parametrize("rule", RULES)
def test_a_checkpoint_restores_the_storage(rule: str, tmp_path: Path) -> None:
    value = numbers(17, 5)
    opt, plain = RULES[rule]({"w": LAYOUTS["transposed"](halves(value))}), RULES[rule]({"w": value})
    for one in (opt, plain):
        one.step({"w": np.ones((17, 5), np.float32)})
    opt.save(tmp_path / "run.safetensors")
    again = RULES[rule]({"w": np.zeros((17, 5), HALVES)})
    again.load(tmp_path / "run.safetensors")
    copy = RULES[rule]({"w": halves(whole(opt.params["w"]))})
    copy.load_state_dict(opt.state_dict())
    for one in (opt, plain, again, copy):
        one.step({"w": np.full((17, 5), 0.5, np.float32)})
    for one in (opt, again, copy):
        same_optimizers(one, plain)
    with pytest.raises(ValueError, match="here float32"):
        plain.load(tmp_path / "run.safetensors")


@pytest.mark.parametrize("rule", ["adamw", "nesterov", "toy"])
def test_a_directory_of_state_resumes(rule: str, tmp_path: Path) -> None:
    values = {"adamw": AdamW, "nesterov": SGD, "toy": Toy}
    options: dict[str, Any] = {"momentum": 0.9, "nesterov": True} if rule == "nesterov" else {}
    value = numbers(31, 9)
    plain = values[rule]({"w": value.copy()}, lr=0.1, **options)
    for _ in range(2):
        params = thalweg.map_params(tmp_path, {"w": halves(value)})
        opt = values[rule](params, lr=0.1, state_dir=tmp_path, **options)
        for one in (opt, plain):
            one.step({"w": np.full((31, 9), 0.5, np.float32)})
        same_optimizers(opt, plain)
        opt.close()


def test_overlapping_parameters_are_refused() -> None:
    memory = halves(numbers(10))
    with pytest.raises(ValueError, match="share memory"):
        AdamW({"a": memory[:6], "b": memory[5:]})
    AdamW({"a": memory[:5], "b": memory[5:]})

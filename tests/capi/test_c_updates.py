"""Updates of the C library have the bits of the Python package: rules, types, options, layouts."""

from __future__ import annotations

import ctypes as c
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from c_library import (
    DONE,
    NONFINITE,
    RULES,
    SKIPPED,
    Options,
    Tensor,
    call,
    last_error,
    options_of,
    step_of,
    tensor_of,
)

import thalweg
from thalweg import _core

Array = np.ndarray[Any, Any]
CASES: list[tuple[str, dict[str, Any]]] = [
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "betas": (0.3, 0.4), "eps": 1e-2, "maximize": True}),
    ("AdamW", {"amsgrad": True, "independent": True, "weight_decay": 0.01}),
    ("AdamW", {"cautious": True, "update_rms": 1.0}),
    ("Adam", {"l2": 0.1}),
    ("Adam", {"amsgrad": True}),
    ("SGDW", {"lr": 0.1}),
    ("SGDW", {"lr": 0.1, "momentum": 0.9, "dampening": 0.1}),
    ("SGD", {"lr": 0.1, "l2": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("NAdamW", {"update_rms": 0.5}),
    ("RAdamW", {"cautious": True}),
    ("AdaBelief", {"eps_root": 1e-12}),
    ("Lion", {"independent": True, "weight_decay": 1e-4}),
    ("RMSprop", {"l2": 0.01}),
    ("RMSprop", {"momentum": 0.9}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"centered": True, "momentum": 0.9, "alpha": 0.5}),
    ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("ScheduleFreeAdamW", {"r": 1.0, "weight_lr_power": 1.5}),
]
TYPES = [np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]
STATE = {
    "Adam": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    "SGD": ("momentum_buffer",),
    "AdaBelief": ("exp_avg", "exp_avg_var"),
    "Lion": ("exp_avg",),
    "RMSprop": ("square_avg", "grad_avg", "momentum_buffer"),
    "Adagrad": ("sum",),
    "ScheduleFreeAdamW": ("z", "exp_avg_sq"),
}


def state_names(rule: str) -> tuple[str, ...]:
    return STATE.get(rule) or STATE["SGD" if rule == "SGDW" else "Adam"]


def arrays(seed: int, dtype: np.dtype[Any]) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    shapes = {"a": (17, 300), "b": (5,), "c": (), "d": (0, 3)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


class Model:
    """Parameters with state of their own, updated by the C library."""

    def __init__(self, rule: str, options: Options, opt: thalweg.Optimizer) -> None:
        self.rule, self.options = rule, options
        self.params = {name: array.copy() for name, array in opt.params.items()}
        self.state = {
            name: {
                key: np.array(array) for key, array in leaf.items() if isinstance(array, np.ndarray)
            }
            for name, leaf in opt.state.items()
        }
        self.steps = 0

    def tensors(self, grads: dict[str, Array]) -> list[Tensor]:
        made = []
        for name, p in self.params.items():
            state = self.state[name]
            base = [key for key in state if key.endswith("_base")]
            made.append(
                tensor_of(
                    p,
                    grads[name],
                    tuple(state.get(key) for key in state_names(self.rule)),
                    low=state.get("low"),
                    bases=state[base[0]] if base else None,
                    history=state.get("history"),
                    step=self.steps + 1,
                    name=name,
                )
            )
        return made

    def update(self, grads: dict[str, Array], **step: Any) -> Any:
        made = step_of(**step)
        code = call("update", self.tensors(grads), self.options, 1, made)
        assert code == DONE, last_error()
        self.steps += 1
        return made

    def equals(self, opt: thalweg.Optimizer) -> bool:
        def same(one: Any, other: Any) -> bool:
            return bool(np.asarray(one).tobytes() == np.asarray(other).tobytes())

        return all(same(self.params[name], p) for name, p in opt.params.items()) and all(
            same(array, opt.state[name][key])
            for name, state in self.state.items()
            for key, array in state.items()
        )


def both(rule: str, given: dict[str, Any], dtype: Any, state: str, **how: Any) -> tuple[Any, Model]:
    opt = getattr(thalweg, rule)(arrays(1, dtype), state=state, **given, **how)
    return opt, Model(rule, options_of(rule, **given), opt)


def has_state(rule: str, given: dict[str, Any], dtype: Any, state: str) -> bool:
    try:
        getattr(thalweg, rule)(np.zeros(8, dtype), state=state, **given)
    except ValueError:
        return False
    return True


VARIANTS = [
    (*case, dtype, state)
    for case in CASES
    for dtype in TYPES
    for state in ("full", "bfloat16", "compact")
    if has_state(*case, dtype, state)
]


def test_small_state_is_tried() -> None:
    assert sum(state != "full" for *_, state in VARIANTS) > 60


@pytest.mark.parametrize(("rule", "given", "dtype", "state"), VARIANTS)
def test_updates_have_the_bits_of_python(
    rule: str, given: dict[str, Any], dtype: np.dtype[Any], state: str
) -> None:
    opt, model = both(rule, given, dtype, state)
    for step in range(4):
        grads = arrays(10 + step, dtype if step % 2 else np.dtype(np.float32))
        report = opt.step(grads, max_norm=20.0 if step == 1 else None)
        limit = 20.0 if step == 1 else 0.0
        made = model.update(grads, max_norm=limit, threads=1 + step % 2)
        assert model.equals(opt), f"step {step}"
        assert made.clip == report.clip
        if report.grad_norm is not None:
            assert made.grad_norm == report.grad_norm


def test_every_rule_is_there_and_tried() -> None:
    assert {rule for rule, _ in CASES} == set(RULES)
    assert set(RULES) == set(_core.rules()) - {"average", "sum", "Toy"}


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_rows_with_strides(dtype: np.dtype[Any]) -> None:
    opt, model = both("AdamW", {}, dtype, "full")
    wide = np.zeros((17, 320), dtype)
    wide[:, :300] = model.params["a"]
    model.params["a"] = wide[:, :300]
    model.state["a"]["exp_avg"] = np.zeros((17, 305), model.state["a"]["exp_avg"].dtype)[:, 5:]
    for step in range(3):
        grads = arrays(10 + step, dtype)
        opt.step(grads)
        backwards = np.ascontiguousarray(grads["a"][::-1])[::-1]
        assert backwards.strides[0] < 0
        model.update({**grads, "a": backwards}, threads=1)
        assert model.equals(opt)
    assert not wide[:, 300:].any()


def slice_of(tensor: Tensor, start: int, stop: int, itemsizes: dict[str, int]) -> Tensor:
    """Elements of a contiguous tensor as a tensor."""
    part = Tensor.from_buffer_copy(tensor)
    part.len, part.shape, part.dims = stop - start, None, 0
    for field in ("p", "g", "low"):
        if getattr(part, field):
            setattr(part, field, getattr(part, field) + start * itemsizes[field])
    for k in range(3):
        if part.state[k]:
            part.state[k] += start * itemsizes[f"state{k}"]
    if part.bases:
        part.bases += start // 64
    return part


@pytest.mark.parametrize(
    ("rule", "state"),
    [("AdamW", "full"), ("AdamW", "compact"), ("ScheduleFreeAdamW", "full")],
)
def test_threads_of_the_host_update_rows(rule: str, state: str) -> None:
    """As a host does: the norm of all, then each thread its own rows."""
    opt, model = both(rule, {"lr": 0.1}, np.dtype(ml_dtypes.bfloat16), state)
    sizes = {"p": 2, "g": 2, "low": 2}
    arrays_of = [model.state["a"][key] for key in state_names(rule)[:2]]
    sizes |= {f"state{k}": array.itemsize for k, array in enumerate(arrays_of)}
    cuts = [0, 64, 1_280, 2_560, 5_100]
    with ThreadPoolExecutor(4) as threads:
        for step in range(3):
            grads = arrays(10 + step, np.dtype(ml_dtypes.bfloat16))
            report = opt.step(grads, max_norm=5.0)
            tensors = model.tensors(grads)
            norm = step_of(max_norm=5.0, threads=1)
            before = {name: p.tobytes() for name, p in model.params.items()}
            assert call("norm", tensors, model.options, 1, norm) == DONE
            assert {name: p.tobytes() for name, p in model.params.items()} == before
            assert (norm.grad_norm, norm.clip) == (report.grad_norm, report.clip)

            def update(part: Tensor, clip: float = norm.clip) -> int:
                how = step_of(scale=clip, threads=1, nonfinite=2)
                return call("update", [part], model.options, 1, how)

            parts = [slice_of(tensors[0], start, stop, sizes) for start, stop in pairwise(cuts)]
            # Each thread has a copy of the history, which all of them read and replace.
            history = model.state["a"].get("history")
            copies = [np.array(history) for _ in parts[1:]]
            if history is not None:
                for part, copy in zip(parts[1:], copies, strict=True):
                    part.history = copy.ctypes.data
            assert list(threads.map(update, [*parts, *tensors[1:]])) == [DONE] * 7
            assert history is None or all(np.array_equal(history, copy) for copy in copies)
            model.steps += 1
            assert model.equals(opt)


def test_groups_have_options_of_their_own() -> None:
    params = arrays(1, np.dtype(np.float32))
    opt = thalweg.AdamW(params, groups=[{"match": "b", "weight_decay": 0.0, "lr": 0.5}])
    model = Model("AdamW", options_of("AdamW"), opt)
    groups = (Options * 2)(model.options, options_of("AdamW", weight_decay=0.0, lr=0.5))
    grads = arrays(2, np.dtype(np.float32))
    tensors = model.tensors(grads)
    tensors[1].group = 1
    opt.step(grads)
    assert call("update", tensors, groups, 2, None) == DONE
    assert model.equals(opt)
    groups[1] = options_of("Lion")
    assert call("update", tensors, groups, 2, None) < 0
    assert "one rule" in last_error()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_average_of_schedule_free(dtype: np.dtype[Any]) -> None:
    opt, model = both("ScheduleFreeAdamW", {"lr": 0.1}, dtype, "full")
    grads = arrays(2, dtype)
    tensors = model.tensors(grads)
    whole = np.float64 if dtype == np.float64 else np.float32
    kept = {name: np.full(p.shape, 7.0, whole) for name, p in model.params.items()}
    addresses = (c.c_void_p * len(kept))(*(array.ctypes.data for array in kept.values()))
    assert call("average_begin", tensors, addresses) < 0
    assert "before its first update" in last_error()
    for _ in range(3):
        opt.step(grads)
        model.update(grads)
    low = model.state["a"].get("low", np.empty(0))
    before = (model.params["a"].tobytes(), low.tobytes())
    assert call("average_begin", model.tensors(grads), addresses) == DONE, last_error()
    with opt.averaged():
        for name, p in opt.params.items():
            assert p.tobytes() == model.params[name].tobytes()
    assert model.params["a"].tobytes() != before[0] or dtype.itemsize == 2
    assert call("average_end", model.tensors(grads), addresses) == DONE
    assert (model.params["a"].tobytes(), low.tobytes()) == before
    assert model.equals(opt)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_gradients_that_are_not_finite(bad: float) -> None:
    opt, model = both("AdamW", {}, np.dtype(np.float32), "full")
    grads = arrays(2, np.dtype(np.float32))
    grads["a"][3, 4:6] = bad
    tensors = model.tensors(grads)
    for name in ("update", "norm"):
        assert call(name, tensors, model.options, 1, step_of()) == NONFINITE
        assert "2 of 'a'; check the loss" in last_error()
        assert "use THALWEG_SKIP" in last_error()
    skip = step_of(nonfinite=1)
    assert call("update", tensors, model.options, 1, skip) == SKIPPED
    assert skip.refused == 2
    assert model.equals(opt)
    opt, _ = both("AdamW", {}, np.dtype(np.float32), "full", nonfinite="ignore")
    with np.errstate(all="ignore"):
        opt.step(grads)
    assert call("update", tensors, model.options, 1, step_of(nonfinite=2)) == DONE
    assert model.equals(opt)


def test_a_float16_parameter_that_becomes_infinite_is_counted() -> None:
    _, model = both("SGD", {"lr": 1e6}, np.dtype(np.float16), "full")
    assert model.update(arrays(2, np.dtype(np.float16))).overflowed == 3
    assert np.isinf(model.params["a"]).any()


def test_max_value_limits_each_element() -> None:
    params = arrays(1, np.dtype(np.float64))
    opt = thalweg.SGD(params, lr=0.1)
    model = Model("SGD", options_of("SGD", lr=0.1), opt)
    grads = arrays(2, np.dtype(np.float64))
    opt.step(grads, max_value=0.3, scale=0.5)
    assert model.update(grads, max_value=0.3, scale=0.5, nonfinite=2).grad_norm == -1.0
    assert model.equals(opt)

"""Steps that depend on a measure of the whole parameter: `cautious` and `update_rms`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from arrays import assert_same_bits, machine
from formulas import FORMULAS
from thalweg import compact, functional

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]

CAUTIOUS = [name for name, formula in FORMULAS.items() if "cautious" in formula.choices]
LIMITED = [name for name, formula in FORMULAS.items() if "update_rms" in formula.optional]
CASES = [
    *[(name, {"cautious": True}) for name in CAUTIOUS],
    *[(name, {"update_rms": 0.3}) for name in LIMITED],
    *[(name, {"update_rms": 0.3, "cautious": True}) for name in LIMITED],
    ("AdamW", {"cautious": True, "update_rms": 0.3, "amsgrad": True}),
    ("AdamW", {"cautious": True, "maximize": True, "betas": (0.3, 0.4)}),
]
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": np.copy,
    "Fortran": lambda x: x.copy(order="F"),
    "every other": lambda x: np.repeat(x, 2, axis=0)[::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
}


def drawn(shape: tuple[int, ...], dtype: Any, count: int = 5) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for _ in range(count)]


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_steps_equal_the_reference(
    name: str, options: dict[str, Any], dtype: Any, layout: str
) -> None:
    formula, (start, *grads) = FORMULAS[name], drawn((173, 199), dtype)
    values = {**formula.values, "lr": 0.01, **options}
    for level in thalweg.cpu_levels():
        for threads in (1, 3):
            p = LAYOUTS[layout](start)
            opt = getattr(thalweg, name)(p, lr=0.01, **options)
            q, state = start, {key: np.zeros_like(start) for key in formula.states(options.get)}
            with machine(level, threads):
                for step, g in enumerate(grads, start=1):
                    opt.step(np.asfortranarray(g) if step == 2 else g)
                    q, *new = formula.define(q, g, state, step, values)
                    state = dict(zip(state, new, strict=True))
            assert_same_bits(p, q)
            for key, array in state.items():
                assert_same_bits(opt.state["0"][key], array)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_function_measures_each_array(name: str, options: dict[str, Any]) -> None:
    formula = FORMULAS[name]
    values = {**formula.values, "lr": 0.01, **options}
    keys = formula.states(options.get)
    arrays, grads = drawn((40, 50), np.float32), drawn((50, 40), np.float64)
    params = [array.copy() for array in arrays]
    state = {key: [np.zeros_like(p) for p in params] for key in keys}
    own = {key: value for key, value in options.items() if key != "amsgrad"}
    update = getattr(functional, name.lower())
    assert update(params, [g.T for g in grads], step=1, lr=0.01, **state, **own)
    for i, (p, start, g) in enumerate(zip(params, arrays, grads, strict=True)):
        old = {key: np.zeros_like(start) for key in keys}
        for got, expected in zip(
            [p, *(state[key][i] for key in keys)],
            formula.define(start, g.T, old, 1, values),
            strict=True,
        ):
            assert_same_bits(got, expected)


def test_cautious_is_the_formula_of_the_paper() -> None:
    p, *grads = drawn((300,), np.float64)
    q, m, v = p.copy(), np.zeros(300), np.zeros(300)
    opt = thalweg.AdamW(p, lr=0.1, weight_decay=0.1, cautious=True)
    for t, g in enumerate(grads, start=1):
        opt.step(g)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        u = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        mask = (u * g > 0).astype(float)
        assert 0 < mask.mean() < 1 or t == 1
        q -= 0.1 * 0.1 * q + 0.1 * u * mask / max(mask.mean(), 1e-3)
    np.testing.assert_allclose(p, q, rtol=1e-12)


def test_update_rms_is_the_formula_of_the_paper() -> None:
    p, *grads = drawn((300,), np.float64)
    q, m, v = p.copy(), np.zeros(300), np.zeros(300)
    opt = thalweg.AdamW(p, lr=0.1, weight_decay=0.1, update_rms=1.0)
    slowed = 0
    for t, g in enumerate([*grads, 30.0 * grads[0]], start=1):
        opt.step(g)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        u = v / (1 - 0.999**t)
        rms = np.sqrt(np.mean(g * g / np.maximum(u, 1e-16)))
        slowed += rms > 1.0
        lr = 0.1 / max(1.0, rms)
        q -= lr * 0.1 * q + lr * m / (1 - 0.9**t) / (np.sqrt(u) + 1e-8)
    assert slowed > 1
    np.testing.assert_allclose(p, q, rtol=1e-12)


def test_few_agreeing_elements_are_not_enlarged_without_limit() -> None:
    p, g = np.zeros(5_000), np.ones(5_000)
    opt = thalweg.AdamW(p, lr=1.0, weight_decay=0.0, cautious=True)
    opt.step(g)
    g[1:] = -1e-3  # the direction stays positive, so one element in 5,000 agrees
    before = p.copy()
    opt.step(g)
    assert (p[1:] == before[1:]).all()
    assert 100.0 < before[0] - p[0] < 1_000.0


def test_groups_have_their_own_limit() -> None:
    params = {"slow": np.zeros(100), "free": np.zeros(100)}
    groups = [{"match": "slow", "update_rms": lambda _: 0.5}]
    opt = thalweg.AdamW(params, lr=0.1, weight_decay=0.0, groups=groups)
    opt.step(dict.fromkeys(params, np.ones(100)))
    np.testing.assert_allclose(params["slow"], -0.05)
    np.testing.assert_allclose(params["free"], -0.1)


@pytest.mark.parametrize("limit", ["max_norm", "max_tensor_norm", "max_value"])
def test_the_measure_is_of_the_clipped_gradient(limit: str) -> None:
    start, first, second = drawn((60,), np.float64, 3)
    for options in ({"cautious": True}, {"update_rms": 0.5}):
        p, q = start.copy(), start.copy()
        opt, other = (thalweg.AdamW(x, lr=0.1, **options) for x in (p, q))
        for g in (first, 9 * second):
            opt.step(g, scale=0.5, **{limit: 0.25})
            clipped = 0.5 * g
            if limit == "max_value":
                clipped = np.clip(clipped, -0.25, 0.25)
            else:
                clipped *= min(1.0, 0.25 / np.linalg.norm(clipped))
            other.step(clipped)
        np.testing.assert_allclose(p, q, rtol=1e-12)


@pytest.mark.parametrize("state", ["bfloat16", "compact"])
def test_small_state_is_measured_as_it_is_decoded(state: Any) -> None:
    start, *grads = drawn((80, 64), np.float32)
    formula = FORMULAS["AdamW"]
    values = {**formula.values, "lr": 0.01, "cautious": True, "update_rms": 0.3}
    p = start.copy()
    opt = thalweg.AdamW(p, lr=0.01, cautious=True, update_rms=0.3, state=state)
    q = start
    opt.step(grads[0])
    for step, g in enumerate(grads[1:], start=2):
        q = p.copy()
        kept = compact.decode(opt, "0")
        old = {key: kept[key] for key in ("exp_avg", "exp_avg_sq")}
        opt.step(g)
        assert_same_bits(p, formula.define(q, g, old, step, values)[0])


def test_a_step_tensor_by_tensor_is_the_same() -> None:
    starts, grads = drawn((30,), np.float64), drawn((30,), np.float64)
    whole, parts = ({str(i): x.copy() for i, x in enumerate(starts)} for _ in range(2))
    options = {"lr": 0.1, "cautious": True, "update_rms": 0.5}
    thalweg.AdamW(whole, **options).step({str(i): g for i, g in enumerate(grads)})
    with thalweg.AdamW(parts, **options).open_step() as step:
        for i, g in enumerate(grads):
            step({str(i): g})
    for name, p in whole.items():
        assert_same_bits(parts[name], p)


def test_statistics_are_of_the_step_that_was_taken() -> None:
    start, g = drawn((30,), np.float64, 2)
    p = start.copy()
    report = thalweg.AdamW(p, lr=0.1, update_rms=0.5, cautious=True).step(g, stats=True)
    assert report.stats is not None
    change = report.stats["0"].update_norm
    np.testing.assert_allclose(change, np.linalg.norm(p - start), rtol=1e-12)


def test_an_empty_parameter_has_no_measure() -> None:
    opt = thalweg.AdamW(np.zeros((0, 3)), lr=0.1, update_rms=0.5, cautious=True)
    assert opt.step(np.zeros((0, 3))).step == 1


@pytest.mark.parametrize("option", [{"cautious": True}, {"update_rms": 0.5}])
def test_nan_reaches_the_parameter_only_if_it_is_let_in(option: dict[str, Any]) -> None:
    g = np.array([1.0, np.nan, -1.0])
    p = np.zeros(3)
    opt = thalweg.AdamW(p, lr=0.1, nonfinite="skip", **option)
    assert opt.step(g).skipped
    assert not p.any()
    thalweg.AdamW(p, lr=0.1, nonfinite="ignore", **option).step(g)
    assert np.isnan(p[1])


def test_a_state_dict_knows_them() -> None:
    opt = thalweg.AdamW(np.zeros(3), lr=0.1, cautious=True, update_rms=1.0)
    opt.step(np.ones(3))
    again = thalweg.AdamW(np.zeros(3), lr=0.1, cautious=True)
    with pytest.warns(UserWarning, match="update_rms"):
        again.load_state_dict(opt.state_dict())
    assert again.groups[0].update_rms == 1.0
    with pytest.raises(ValueError, match="option cautious"):
        thalweg.AdamW(np.zeros(3), lr=0.1).load_state_dict(opt.state_dict())


def test_rules_without_them_say_so() -> None:
    for cls in (thalweg.Adam, thalweg.RMSprop, thalweg.Adagrad, thalweg.SGD, thalweg.SGDW):
        with pytest.raises(TypeError, match="has no 'cautious'"):
            cls(np.zeros(3), lr=0.1, cautious=True)
    for cls in (thalweg.Adam, thalweg.Lion, thalweg.AdaBelief):
        with pytest.raises(TypeError, match="has no 'update_rms'"):
            cls(np.zeros(3), lr=0.1, update_rms=1.0)

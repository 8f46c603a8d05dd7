"""Numbers at the ends: steps beyond any run, parameters and gradients at the limits of a type."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from conftest import unchanged
from thalweg import SGD, SGDW, Adam, AdamW, NonFiniteError, reference

if TYPE_CHECKING:
    from collections.abc import Callable

RULES: dict[str, Callable[..., Any]] = {
    "AdamW": AdamW,
    "Adam": lambda p, **options: Adam(p, l2=1e-2, **options),
    "AMSGrad": lambda p, **options: AdamW(p, amsgrad=True, **options),
    "SGDW": lambda p, **options: SGDW(p, lr=0.1, **options),
    "SGD with momentum": lambda p, **options: SGD(p, lr=0.1, momentum=0.9, l2=0.1, **options),
    "Nesterov": lambda p, **options: SGD(p, lr=0.1, momentum=0.9, nesterov=True, **options),
}


def expected(opt: Any, name: str, g: Any) -> tuple[Any, ...]:
    """What the reference makes of a parameter at its next step."""
    resolved = opt.resolve(name)
    values = {key: resolved[key] for key in opt.rule.keys}
    done, *live = opt.state[name].values()
    p, *state = (array.copy() for array in (opt.params[name], *live))
    if isinstance(opt, Adam | AdamW):
        more = {"max_exp_avg_sq": state[2]} if len(state) == 3 else {}
        return reference.adam(p, g, *state[:2], done + 1, **values, **more)
    values["nesterov"] = opt._held.options["nesterov"]
    return reference.sgd(p, g, state[0] if state else None, done + 1, **values)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("done", [2**31 - 1, 2**31, 2**32, 2**53 - 1, 2**53, 2**53 + 1, 2**62])
def test_steps_are_counted_exactly(rule: str, done: int) -> None:
    asked = []

    def schedule(step: int) -> float:
        asked.append(step)
        return 0.125

    opt = RULES[rule]({"w": np.ones(5, np.float32)})
    opt.groups[0].lr = schedule
    opt.step({"w": np.linspace(-1, 1, 5)})
    saved = opt.state_dict()
    saved["step_count"] = saved["state"]["w"]["step"] = done
    opt.load_state_dict(saved)
    opt.groups[0].lr = 0.125
    result = expected(opt, "w", np.linspace(2, -1, 5))
    opt.groups[0].lr = schedule
    report = opt.step({"w": np.linspace(2, -1, 5)})
    assert (asked[-1], report.step, opt.step_count) == (done + 1,) * 3
    assert opt.state["w"]["step"] == done + 1
    assert opt.params["w"].tobytes() == result[0].tobytes()
    assert opt.state_dict()["step_count"] == done + 1


def ends(dtype: Any) -> list[float]:
    """Numbers at the limits of a type."""
    info = np.finfo(dtype)
    one_less = float(np.nextafter(dtype(info.max), dtype(0)))
    positive = [float(info.smallest_subnormal), float(info.tiny), 1.0, one_less, float(info.max)]
    return [0.0, *positive, *(-x for x in positive)]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore:.*encountered.*:RuntimeWarning")  # the reference's overflows
def test_parameters_and_gradients_at_the_limits_have_the_bits_of_the_reference(
    rule: str, dtype: Any
) -> None:
    pairs = np.array([*product([*ends(dtype), np.inf, np.nan], ends(dtype))], dtype)
    opt = RULES[rule]({"w": pairs[:, 0].copy()}, nonfinite="ignore")
    for g in (pairs[:, 1], pairs[::-1, 1], np.zeros(len(pairs), dtype)):
        p, *state = expected(opt, "w", g)
        opt.step({"w": g})
        np.testing.assert_array_equal(opt.params["w"], p)
        for array, result in zip([*opt.state["w"].values()][1:], state, strict=True):
            np.testing.assert_array_equal(array, result)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adamw_leaves_finite_what_is_finite(dtype: Any) -> None:
    """Every gradient that is taken moves a parameter by about the learning rate, however large."""
    limit = 2.0**64 if dtype is np.float32 else 2.0**512
    largest = float(np.nextafter(dtype(limit), dtype(0)))
    taken = [g for g in ends(dtype) if abs(g) <= largest] + [largest, -largest]
    pairs = np.array([*product(ends(dtype), taken)], dtype)
    opt = AdamW({"w": pairs[:, 0].copy()}, lr=1e-3)
    for g in (pairs[:, 1], pairs[::-1, 1], pairs[:, 1]):
        opt.step({"w": g})
        arrays = [opt.params["w"], opt.state["w"]["exp_avg"], opt.state["w"]["exp_avg_sq"]]
        assert all(np.isfinite(array).all() for array in arrays)
    pairs[0, 1] = limit
    with unchanged(opt), pytest.raises(NonFiniteError, match=r"w \(1\)"):
        opt.step({"w": pairs[:, 1]})


def test_a_view_of_more_elements_than_memory_is_refused_at_once() -> None:
    """Every element of a window is one of few; looking at each would take the memory of all."""
    windows = as_strided(np.ones(300_000), (100_000, 100_000), (8, 16))
    with pytest.raises(ValueError, match="several elements of parameter '0' share memory"):
        AdamW(windows)

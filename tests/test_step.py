"""A step: the arrays it reads and writes, its report, and refusals that change nothing."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import thalweg
from conftest import unchanged
from thalweg import SGD, SGDW, Adam, AdamW, BusyError, NonFiniteError, StepReport

CLASSES = [
    (AdamW, {}),
    (Adam, {"l2": 0.1, "amsgrad": True}),
    (SGD, {"lr": 0.1}),
    (SGDW, {"lr": 0.1, "momentum": 0.9}),
]


def single(*shape: int) -> np.ndarray:
    return np.ones(shape or 3, np.float32)


def vector(*values: float) -> np.ndarray:
    return np.array(values, float)


@pytest.mark.parametrize(("cls", "options"), CLASSES)
def test_arrays_keep_their_identity(cls: Any, options: dict[str, Any]) -> None:
    params = {"w": single(2, 3), "s": np.array(1.0)}
    opt = cls(params, **options)

    def arrays() -> list[tuple[int, int]]:
        leaves = [leaf for state in opt.state.values() for leaf in state.values()]
        held = [leaf for leaf in [*leaves, *params.values()] if isinstance(leaf, np.ndarray)]
        return [(id(array), array.ctypes.data) for array in held]

    before = arrays()
    for _ in range(3):
        opt.step({"w": single(2, 3), "s": np.float64(1.0)})
    assert arrays() == before
    assert opt.params["w"] is params["w"]
    assert opt.state["w"]["step"] == 3
    assert (params["w"] != 1.0).all()
    assert params["s"] != 1.0


def test_the_mappings_are_read_only() -> None:
    opt = AdamW({"w": single()})
    for mapping in (opt.params, opt.state, opt.state["w"]):
        assert not hasattr(mapping, "__setitem__")
    for name in ("params", "state", "step_count", "groups"):
        with pytest.raises(AttributeError):
            setattr(opt, name, {})


@pytest.mark.parametrize(("cls", "options"), CLASSES)
def test_gradients_are_only_read(cls: Any, options: dict[str, Any]) -> None:
    grads = {"w": np.broadcast_to(np.float64(-0.25), 3), "v": vector(1e-30, -2, 3)}
    grads["v"].setflags(write=False)
    kept = copy.deepcopy(grads)
    cls({"w": single(), "v": single()}, **options).step(grads, max_norm=0.5, scale=0.5)
    assert all(np.array_equal(grads[name], kept[name]) for name in grads)


@pytest.mark.parametrize(
    ("options", "arguments", "grad_norm", "clip"),
    [
        ({}, {}, 5.0, 1.0),
        ({}, {"scale": 0.5}, 2.5, 1.0),
        ({}, {"max_norm": 1.0}, 5.0, 0.2),
        ({}, {"max_norm": 5.0}, 5.0, 1.0),
        ({}, {"max_norm": 1.0, "scale": 2.0}, 10.0, 0.1),
        ({}, {"max_norm": float("inf")}, 5.0, 1.0),
        ({"nonfinite": "skip"}, {}, 5.0, 1.0),
        ({"nonfinite": "ignore"}, {}, None, 1.0),
        ({"nonfinite": "ignore"}, {"max_norm": 1.0}, 5.0, 0.2),
    ],
)
def test_scale_comes_before_clipping(
    options: dict[str, Any], arguments: dict[str, Any], grad_norm: float | None, clip: float
) -> None:
    params = {"w": vector(1, 1), "b": vector(1)}
    report = SGD(params, lr=0.5, **options).step({"w": vector(3, 0), "b": vector(4)}, **arguments)
    assert report == StepReport(1, 0.5, grad_norm, clip, skipped=False, nonfinite={})
    moved = 0.5 * arguments.get("scale", 1.0) * clip
    assert np.allclose(params["w"], [1 - 3 * moved, 1], rtol=1e-15)
    assert np.allclose(params["b"], 1 - 4 * moved, rtol=1e-15)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), -float("inf"), "1", True, [1.0]])
@pytest.mark.parametrize("name", ["scale", "max_norm"])
def test_scale_and_max_norm_are_positive_numbers(name: str, value: Any) -> None:
    opt = AdamW({"w": single()})
    error = ValueError if type(value) in (int, float) else TypeError
    with unchanged(opt), pytest.raises(error, match=name):
        opt.step({"w": single()}, **{name: value})


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"scale": float("inf")}, ValueError),
        ({"scale": 10**400}, ValueError),
        ({"scale": None}, TypeError),
        ({"partial": "yes"}, TypeError),
        ({"norm": 1.0}, TypeError),
    ],
)
def test_other_arguments_are_refused(arguments: Any, error: type[Exception]) -> None:
    opt = AdamW({"w": single()})
    with unchanged(opt), pytest.raises(error, match=next(iter(arguments))):
        opt.step({"w": single()}, **arguments)


def test_each_parameter_counts_its_own_steps() -> None:
    params = {"always": vector(1.0), "later": vector(1.0)}
    opt = AdamW(params, lr=0.1, weight_decay=0.0)
    for step in range(1, 4):
        opt.step({"always": vector(1.0), "later": vector(1.0) if step == 3 else None})
    assert opt.step_count == 3
    assert {name: leaf["step"] for name, leaf in opt.state.items()} == {"always": 3, "later": 1}
    # The bias correction is that of step 1, although the optimizer is at step 3.
    assert np.allclose(params["later"], 0.9)


def test_a_zero_gradient_is_a_real_step() -> None:
    params = {"w": vector(1.0), "none": vector(1.0)}
    opt = AdamW(params, lr=0.1, weight_decay=0.5)
    opt.step({"w": vector(1.0), "none": None})
    exp_avg = opt.state["w"]["exp_avg"].copy()
    before = params["w"].copy()
    opt.step({"w": vector(0.0), "none": None})
    assert opt.state["w"]["exp_avg"] == 0.9 * exp_avg
    assert params["w"] < before
    assert params["none"] == 1.0
    assert opt.state["none"]["step"] == 0


BAD = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "too large for its square": 2e19}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
@pytest.mark.parametrize("max_norm", [None, 1e25])
def test_a_non_finite_gradient_changes_nothing(
    nonfinite: Any, bad: float, max_norm: float | None
) -> None:
    params = {name: single(4) for name in "abc"}
    opt = AdamW(params, nonfinite=nonfinite)
    good = {name: single(4) for name in "abc"}
    opt.step(good)
    grads = {**good, "c": np.array([1, bad, 1, bad], np.float32), "a": vector(bad, 1, 1, 1)}
    with unchanged(opt):
        if nonfinite == "skip":
            report = opt.step(grads, max_norm=max_norm)
            assert (report.skipped, report.step) == (True, 1)
            assert report.nonfinite == {"a": 1, "c": 2}
        else:
            with pytest.raises(NonFiniteError, match=r"a \(1\), c \(2\)") as told:
                opt.step(grads, max_norm=max_norm)
            assert told.value.nonfinite == {"a": 1, "c": 2}
    assert opt.step(good).step == 2


def test_gradients_of_frozen_and_skipped_parameters_may_be_nonfinite() -> None:
    nan = np.full(3, np.nan)
    opt = AdamW(
        {"w": single(), "v": single(), "ice": single()}, groups=[{"match": "ice", "frozen": True}]
    )
    assert opt.step({"w": single(), "v": None, "ice": nan}).nonfinite == {}


def test_the_largest_gradient_depends_on_rule_scale_and_type() -> None:
    large = {"w": np.full(3, 2e19, np.float32)}
    assert SGD({"w": single()}, lr=1e-30).step(large).step == 1
    assert AdamW({"w": single()}).step(large, scale=0.1).step == 1
    assert AdamW({"w": single()}).step(large, max_norm=1.0).step == 1
    assert AdamW({"w": np.ones(3)}).step(large).step == 1
    with pytest.raises(NonFiniteError):
        AdamW({"w": single()}).step({"w": np.full(3, 1e18)}, scale=100.0)


def test_policy_ignore_applies_a_nonfinite_gradient() -> None:
    params = {"w": single(), "v": single()}
    report = AdamW(params, nonfinite="ignore").step({"w": vector(1, np.nan, 1), "v": single()})
    assert (report.step, report.skipped, report.nonfinite) == (1, False, {})
    assert np.isnan(params["w"]).tolist() == [False, True, False]
    assert np.isfinite(params["v"]).all()


def reports() -> list[Any]:
    opt = AdamW({"w": single()}, nonfinite="skip")
    grads = [single(), vector(1, np.nan, 1), vector(1, 1, 2e19)]
    return [opt.step({"w": grad}, max_norm=1e30) for grad in grads]


@pytest.mark.parametrize("report", reports(), ids=["taken", "nan", "overflow"])
def test_reports_cross_process_pools(report: StepReport) -> None:
    for other in (pickle.loads(pickle.dumps(report)), copy.deepcopy(report)):  # noqa: S301 - our own bytes
        assert repr(other) == repr(report)
        assert other == report
    assert report != StepReport(7, 0.0, None, 1.0, skipped=False, nonfinite={})
    assert report != "report"
    with pytest.raises(AttributeError):
        report.step = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "error", [NonFiniteError("w (2); nothing was changed", {"w": 2}, 7), BusyError("stepping")]
)
def test_exceptions_cross_process_pools(error: Exception) -> None:
    other = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)
    assert isinstance(error, FloatingPointError if hasattr(error, "nonfinite") else RuntimeError)


def nested() -> dict[str, Any]:
    return {"fc": [single(), single()], "w": single(), "none": None, "empty": {}}


GRADS = {"fc.0": single(), "fc.1": single(), "w": single()}


def test_rebind_adopts_new_arrays_and_keeps_the_state() -> None:
    params = nested()
    opt = AdamW(params, groups=[{"match": "w", "lr": 0.5}])
    opt.step(GRADS)
    exp_avg = opt.state["w"]["exp_avg"]
    params["w"] = params["w"].copy()
    opt.rebind(params)
    assert opt.params["w"] is params["w"]
    assert opt.state["w"]["exp_avg"] is exp_avg
    assert opt.state["w"]["step"] == 1
    assert opt.resolve("w")["lr"] == 0.5
    before = params["w"].copy()
    assert opt.step(GRADS).step == 2
    assert (params["w"] < before).all()


def test_rebind_refuses_a_tree_that_does_not_fit() -> None:
    opt = AdamW(nested())
    with unchanged(opt), pytest.raises(ValueError, match=r"'extra'.*opt\.extend"):
        opt.rebind({**nested(), "extra": single()})


def test_reset_clears_state_and_keeps_parameters() -> None:
    params = {"fc.w": single(), "fc.b": single()}
    opt = AdamW(params, amsgrad=True)
    grads = {"fc.w": single(), "fc.b": single()}
    opt.step(grads)
    opt.step(grads)
    before = copy.deepcopy(params)
    exp_avg = opt.state["fc.b"]["exp_avg"]
    for match, steps, step_count in [("*.b", [2, 0], 2), (["fc.w"], [0, 0], 2), (None, [0, 0], 0)]:
        opt.reset(match)
        assert [leaf["step"] for leaf in opt.state.values()] == steps
        assert opt.step_count == step_count
    assert opt.state["fc.b"]["exp_avg"] is exp_avg
    assert not any(
        array.any() for leaf in opt.state.values() for key, array in leaf.items() if key != "step"
    )
    assert all(np.array_equal(params[name], before[name]) for name in params)
    fresh = AdamW(before, amsgrad=True)
    assert opt.step(grads) == fresh.step(grads)
    assert all(np.array_equal(params[name], before[name]) for name in params)
    with unchanged(opt), pytest.raises(ValueError, match=r"reset matches nothing.*bias"):
        opt.reset("*.bias")
    with unchanged(opt), pytest.raises(TypeError, match=r"match of reset must be.*3"):
        opt.reset(3)  # type: ignore[arg-type]


def test_maximize_ascends() -> None:
    params = {"up": vector(1.0), "down": vector(1.0)}
    thalweg.SGD({"w": params["up"]}, lr=0.5, maximize=True).step({"w": vector(1.0)})
    thalweg.SGD({"w": params["down"]}, lr=0.5).step({"w": vector(-1.0)})
    assert params["up"] == params["down"] == 1.5


def test_empty_arrays_and_single_elements_are_updated() -> None:
    params = {"none": np.ones((0, 3)), "one": np.ones((1, 1)), "zero": np.array(1.0)}
    report = SGD(params, lr=1.0).step({name: np.ones_like(p) for name, p in params.items()})
    assert report.grad_norm == np.sqrt(2.0)
    assert params["one"] == params["zero"] == 0.0

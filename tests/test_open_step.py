"""An open step takes its gradients in parts: it counts as one step, and each call is atomic."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import weakref
from collections import UserDict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg
from arrays import generators, machine, place, readable, types, writable
from conftest import snapshot, unchanged
from rules import Rule, every_rule

if TYPE_CHECKING:
    from collections.abc import Callable


def model() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    w, b = rng.standard_normal((3, 4)), rng.standard_normal(4).astype(np.float32)
    return {"fc": {"w": w, "b": b}, "out": [rng.standard_normal(2), np.ones(())]}


def gradients(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(p.shape) for name, p in thalweg.tree.flatten(model()).items()}


NAMES = list(gradients(0))


def values(opt: thalweg.Optimizer) -> Any:
    """The contents of parameters and state, without the identity of their arrays."""
    step, counts, arrays, groups = snapshot(opt)
    return step, counts, {name: content for name, (_, content) in arrays.items()}, groups


def subtree(names: list[str], grads: dict[str, Any]) -> Any:
    """The named gradients in nested dicts; a dict can leave out the other names."""
    tree: dict[str, Any] = {}
    for name in names:
        above, _, last = name.partition(".")
        tree.setdefault(above, {})[last] = grads[name]
    return tree


@every_rule
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_parts_in_any_order_equal_one_step_with_all_gradients(
    rule: Rule, data: st.DataObject
) -> None:
    rng, dtype, layout = data.draw(generators), data.draw(types), data.draw(writable)
    params = {n: place(p, layout)[1] for n, p in thalweg.tree.flatten(model()).items()}
    tree = thalweg.tree.unflatten(params, like=model())
    opt, other = rule.make(tree), rule.make(copy.deepcopy(tree))
    for _ in range(3):
        grads = {n: rng.standard_normal(p.shape).astype(dtype) for n, p in params.items()}
        grads = {n: place(g, data.draw(readable))[1] for n, g in grads.items()}
        order = data.draw(st.permutations(NAMES))
        given = order[: data.draw(st.integers(1, len(order)))]
        cuts = sorted(data.draw(st.lists(st.integers(0, len(given)), max_size=3)))
        form = data.draw(st.sampled_from([subtree, lambda names, g: {n: g[n] for n in names}]))
        scale = data.draw(st.sampled_from([1.0, 1 / 3]))
        with opt.open_step() as step, machine(data.draw(st.sampled_from(thalweg.cpu_levels()))):
            for start, end in zip([0, *cuts], [*cuts, len(given)], strict=True):
                step(form(given[start:end], grads), scale=scale)
        other.step({n: grads[n] for n in given}, scale=scale, partial=True)
        assert values(opt) == values(other)


def test_an_open_step_is_one_step_for_schedules_reports_and_counters() -> None:
    asked: list[int] = []
    opt = thalweg.AdamW(model(), lr=lambda step: asked.append(step) or 0.1 / step)
    opt.step(gradients(0))
    with opt.open_step() as step:
        reports = [step({name: g}) for name, g in gradients(1).items()]
    assert asked == [1, 2]
    assert {(report.step, report.lr, report.clip) for report in reports} == {(2, 0.05, 1.0)}
    assert [report.grad_norm for report in reports] == [
        pytest.approx(np.linalg.norm(g)) for g in gradients(1).values()
    ]
    assert opt.step_count == 2
    assert opt.step(gradients(2)).step == 3


def test_parameters_given_none_or_nothing_are_skipped() -> None:
    opt = thalweg.AdamW(model())
    with opt.open_step() as step:
        step({"fc.w": np.ones((3, 4)), "fc.b": None})
        step({"out": None, "fc": {"b": None}})
        step(None)
        step({})
    assert opt.step_count == 1
    assert [opt.state[name]["step"] for name in NAMES] == [1, 0, 0, 0]


@pytest.mark.parametrize("nothing", [[], [{}], [None, {"fc": None}, {"out.0": None}]])
def test_a_block_without_an_update_is_no_step(nothing: list[Any]) -> None:
    opt = thalweg.AdamW(model())
    with unchanged(opt), opt.open_step() as step:
        for grads in nothing:
            step(grads)
    assert opt.step(gradients(0)).step == 1


BAD: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "shape": ({"fc.b": np.ones(3)}, {}, ValueError, "'fc.b' must have the shape"),
    "dtype": ({"fc.b": np.ones(4, int)}, {}, TypeError, "'fc.b' must have dtype"),
    "no array": ({"fc.b": [1.0] * 4}, {}, ValueError, "unexpected: 'fc.b.0'"),
    "unknown": ({"tail": np.ones(3)}, {}, ValueError, "unexpected: 'tail'"),
    "unknown None": ({"tail": None}, {}, ValueError, "unexpected: 'tail'"),
    "NaN": ({"fc.b": np.full(4, np.nan)}, {}, thalweg.NonFiniteError, r"at step 1: fc\.b \(4\)"),
    "twice": ({"fc.w": np.ones((3, 4))}, {}, ValueError, "'fc.w' was already updated in this step"),
    "scale": ({"fc.b": np.ones(4)}, {"scale": 0.0}, ValueError, "scale must be"),
    "two limits": (
        {"fc.b": np.ones(4)},
        {"max_value": 1.0, "max_tensor_norm": 1.0},
        ValueError,
        "cannot be combined",
    ),
    "max_norm": ({"fc.b": np.ones(4)}, {"max_norm": 1.0}, ValueError, "max_norm needs"),
    "coefficient": ({"fc.b": np.ones(4)}, {"scale": 1e39}, ValueError, "scale must be small"),
}


@pytest.mark.parametrize(("grads", "options", "error", "message"), BAD.values(), ids=BAD)
def test_a_bad_call_keeps_the_calls_before_it_and_changes_nothing_else(
    grads: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    opt, twin = thalweg.AdamW(model()), thalweg.AdamW(model())
    good = gradients(0)
    with opt.open_step() as step:
        step({"fc.w": good["fc.w"]})
        with unchanged(opt), pytest.raises(error, match=message):
            step({"out.0": good["out.0"], **grads}, **options)
        step({"out.0": good["out.0"]})
    twin.step({name: good[name] for name in ("fc.w", "out.0")}, partial=True)
    assert values(opt) == values(twin)


def test_a_bad_first_call_is_no_step() -> None:
    opt = thalweg.AdamW(model())
    with opt.open_step() as step, unchanged(opt), pytest.raises(ValueError, match="shape"):
        step({"fc.b": np.ones(3)})
    assert opt.step_count == 0


def test_policy_ignore_accepts_nonfinite_gradients_and_skip_is_refused_at_opening() -> None:
    opt = thalweg.AdamW(model(), nonfinite="ignore")
    with opt.open_step() as step:
        report = step({"fc.b": np.full(4, np.nan)}, max_value=1.0)
    assert (report.grad_norm, report.step) == (None, 1)
    assert np.isnan(opt.params["fc.b"]).all()
    opt = thalweg.AdamW(model(), nonfinite="skip")
    with unchanged(opt), pytest.raises(ValueError, match="cannot be skipped"), opt.open_step():
        pytest.fail("inside")
    assert opt.step(gradients(0)).step == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_leaving_by_an_exception_closes_the_step(error: type[BaseException]) -> None:
    opt = thalweg.AdamW(model())

    def fail() -> None:
        with opt.open_step() as step:
            step({"fc.w": np.ones((3, 4))})
            raise error

    with pytest.raises(error):
        fail()
    assert opt.step_count == 1
    assert opt.step(gradients(0)).step == 2
    assert [opt.state[name]["step"] for name in NAMES] == [2, 1, 1, 1]


def test_a_closed_step_is_refused_outside_its_block_and_in_a_later_one() -> None:
    opt = thalweg.AdamW(model())
    context = opt.open_step()
    grads = {"fc.w": np.ones((3, 4))}
    for attempt in (lambda: context(grads), lambda: closed(grads)):
        with opt.open_step() as closed:
            assert repr(closed) == f"<open step of {opt!r}>"
        assert repr(closed) == f"<closed step of {opt!r}>"
        with unchanged(opt), pytest.raises(thalweg.BusyError, match="this step is closed"):
            attempt()
        with opt.open_step(), unchanged(opt), pytest.raises(thalweg.BusyError, match="closed"):
            attempt()
    with opt.open_step() as step:
        closed.__exit__(None, None, None)  # the manager of an earlier step
        step(grads)
    assert opt.step_count == 1


def loading(opt: thalweg.Optimizer) -> Callable[[], Any]:
    saved = opt.state_dict()
    return lambda: opt.load_state_dict(saved)


def averaging(opt: thalweg.Optimizer) -> Callable[[], Any]:
    return thalweg.EMA(opt, 0.9).update


def exchanging(opt: thalweg.Optimizer) -> Callable[[], Any]:
    return thalweg.EMA(opt, 0.9).swapped().__enter__


REFUSED_INSIDE: dict[str, Callable[[Any], Callable[[], Any]]] = {
    "step": lambda opt: lambda: opt.step(gradients(0)),
    "another open step": lambda opt: opt.open_step().__enter__,
    "save": lambda opt: opt.state_dict,
    "load": loading,
    "pickle": lambda opt: lambda: pickle.dumps(opt),
    "copy": lambda opt: lambda: copy.copy(opt),
    "edit": lambda opt: lambda: setattr(opt, "lr", 0.3),
    "freeze": lambda opt: lambda: setattr(opt.groups[0], "frozen", True),
    "reset": lambda opt: opt.reset,
    "rebind": lambda opt: lambda: opt.rebind(opt._held.tree),
    "extend": lambda opt: lambda: opt.extend({**opt._held.tree, "more": np.ones(2)}),
    "average": averaging,
    "exchange": exchanging,
}


@pytest.mark.parametrize("prepare", REFUSED_INSIDE.values(), ids=REFUSED_INSIDE)
def test_other_actions_are_refused_while_a_step_is_open(
    prepare: Callable[[Any], Callable[[], Any]],
) -> None:
    opt, twin = thalweg.AdamW(model()), thalweg.AdamW(model())
    act = prepare(opt)
    good = gradients(0)
    with opt.open_step() as step:
        for name in NAMES:
            with unchanged(opt), pytest.raises(thalweg.BusyError, match="a step is open"):
                act()
            step({name: good[name]})
    twin.step(good)
    assert values(opt) == values(twin)


def test_frozen_parameters_are_ignored_and_reading_is_allowed() -> None:
    opt = thalweg.AdamW(model(), groups=[{"match": "out.*", "frozen": True}])
    with opt.open_step() as step:
        assert opt.resolve("fc.w")["lr"] == 1e-3
        for _ in range(2):
            step({"out": ["anything", np.ones(7)]})
        step({"fc.w": np.ones((3, 4)), "out.0": np.ones(9)})
        assert opt.state["fc.w"]["step"] == opt.step_count == 1
    assert "out.0" not in opt.state


@pytest.mark.parametrize(
    ("replace", "name"),
    [
        (lambda params: params["fc"].update(b=params["fc"]["b"].copy()), "fc.b"),
        (lambda params: params.update(fc=dict(params["fc"])), "fc"),
        (lambda params: params.pop("fc"), "fc"),
    ],
)
def test_a_gradient_for_a_replaced_array_is_refused(
    replace: Callable[[Any], Any], name: str
) -> None:
    params = model()
    opt = thalweg.AdamW(params)
    with opt.open_step() as step:
        replace(params)
        step({"out.0": np.ones(2)})
        with (
            unchanged(opt),
            pytest.raises(ValueError, match=rf"'{name}' in params was replaced.*rebind"),
        ):
            step({"fc.b": np.ones(4), "out.1": np.ones(())})


class Counting(UserDict):
    """A container that counts its lookups."""

    lookups = 0

    def __getitem__(self, key: str) -> Any:
        self.lookups += 1
        return super().__getitem__(key)


@pytest.mark.parametrize("size", [10, 1000])
def test_a_call_looks_up_only_the_parameters_it_is_given(size: int) -> None:
    params = Counting({f"p{i}": np.ones(2) for i in range(size)})
    opt = thalweg.AdamW(params)
    with opt.open_step() as step:
        params.lookups = 0
        step({"p3": np.ones(2), "p4": np.ones(2)})
        assert params.lookups == 2
        step({"p5": np.ones(2)})
        assert params.lookups == 3


@pytest.mark.parametrize(
    "grads", [{"w": np.ones(3)}, {"w": np.ones(2)}, {"w": np.ones(3), "v": np.ones(3)}]
)
def test_no_gradient_is_kept(grads: Any) -> None:
    opt = thalweg.AdamW({"w": np.ones(3)})
    grads = {name: g.copy() for name, g in grads.items()}
    alive = [weakref.ref(g) for g in grads.values()]
    with opt.open_step() as step:
        with contextlib.suppress(ValueError):
            step(grads)
        del grads
        gc.collect(0)
        assert not any(ref() is not None for ref in alive)


def test_a_schedule_that_fails_opens_nothing() -> None:
    def broken(step: int) -> float:
        return float("nan") if step == 2 else 0.1

    opt = thalweg.AdamW(model(), lr=broken)
    opt.step(gradients(0))
    with unchanged(opt), pytest.raises(ValueError, match="at step 2"), opt.open_step():
        pytest.fail("inside")
    with unchanged(opt), pytest.raises(ValueError, match="at step 2"):
        opt.step(gradients(0))


def test_a_manager_that_is_freed_inside_closes_the_step() -> None:
    opt = thalweg.SGD({"w": np.ones(3), "b": np.ones(3)}, 0.5)
    step = opt.open_step().__enter__()
    step({"w": np.ones(3)})
    with pytest.raises(thalweg.BusyError):
        opt.step({"w": np.ones(3), "b": np.ones(3)})
    del step
    assert (opt.step_count, opt.state_dict()["step_count"]) == (1, 1)
    assert opt.step({"w": np.ones(3), "b": np.ones(3)}).step == 2


def test_freeing_a_closed_manager_leaves_a_later_step_open() -> None:
    opt = thalweg.SGD({"w": np.ones(3)}, 0.5)
    with opt.open_step() as first:
        first({"w": np.ones(3)})
    second = opt.open_step().__enter__()
    del first
    second({"w": np.ones(3)})
    second.__exit__()
    assert opt.step_count == 2

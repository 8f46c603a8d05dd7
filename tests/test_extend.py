"""Parameters that are added to a running optimizer."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from arrays import assert_same_bits
from conftest import unchanged
from leafwise import alone, assert_same, gradients, parameters
from rules import Rule, every_rule

if TYPE_CHECKING:
    from collections.abc import Callable


def grown(opt: thalweg.Optimizer, **more: Any) -> dict[str, Any]:
    """The dict of the parameters, with items added."""
    opt._held.tree.update(more)
    return opt._held.tree


@every_rule
def test_added_parameters_start_at_their_first_step_and_the_others_continue(rule: Rule) -> None:
    params = parameters()
    added = params.pop("middle")
    opt = rule.make(params)
    held = {(name, key): a for name, leaf in opt.state.items() for key, a in leaf.items()}
    for step in (1, 2, 3):
        opt.step({name: gradients(step)[name] for name in params})
    opt.extend(grown(opt, middle=added))
    for step in (4, 5):
        opt.step(gradients(step))
    for name in ("low", "high"):
        assert_same(opt, alone(rule, name, range(1, 6)), name)
    assert_same(opt, alone(rule, "middle", (4, 5)), "middle")
    assert opt.step_count == 5
    assert opt.params["middle"] is added
    assert all(opt.state[n][key] is a for (n, key), a in held.items() if key != "step")


def test_globs_and_callables_match_added_parameters_and_groups_stay() -> None:
    def tall(_: str, array: Any) -> bool:
        return array.ndim == 2

    groups = [
        {"match": "*.b", "weight_decay": 0.0},
        {"match": tall, "lr_scale": 2.0},
        {"match": ["body.*", "head.*"], "name": "both"},
    ]
    params = {"body": {"w": np.ones((2, 2)), "b": np.ones(2)}, "head": {"w": np.ones((2, 2))}}
    opt = thalweg.AdamW(params, groups=groups)
    held = opt.groups
    params["head"]["b"] = np.ones(2)
    params["tail"] = {"b": np.ones(2), "w": np.ones((3, 3))}
    opt.extend(params, groups=[{"match": "tail.*", "lr": 0.5}, {"match": "*.w", "eps": 1e-6}])
    assert [group.names for group in opt.groups] == [
        ("body.w", "body.b", "head.w", "head.b", "tail.b", "tail.w"),
        ("body.b", "head.b", "tail.b"),
        ("body.w", "head.w", "tail.w"),
        ("body.w", "body.b", "head.w", "head.b"),
        ("tail.b", "tail.w"),
        ("tail.w",),
    ]
    assert all(one is other for one, other in zip(held, opt.groups, strict=False))
    assert opt.resolve("head.w")["eps"] == 1e-8
    assert opt.resolve("tail.b")["lr"] == 0.5
    held[1].weight_decay = 0.25
    assert opt.resolve("tail.b")["weight_decay"] == 0.25

    params["late"] = {"b": np.ones(2)}
    restored = copy.deepcopy(opt)
    restored.extend(copy.deepcopy(params))
    assert restored.groups[1].names == ("body.b", "head.b", "tail.b")


def test_added_parameters_may_be_frozen_and_of_another_type() -> None:
    opt = thalweg.AdamW({"w": np.ones(2)})
    opt.extend(
        grown(opt, ids=np.arange(3), b=np.ones(2, np.float32)),
        groups=[{"match": "ids", "frozen": True}],
    )
    opt.step({"w": np.ones(2), "b": np.ones(2)})
    assert list(opt.state) == ["w", "b"]


def test_the_order_is_that_of_the_tree_and_the_same_tree_is_no_change() -> None:
    params = {"b": np.ones(2), "c": np.ones(2)}
    opt = thalweg.AdamW(params, lr=0.1)
    twin = copy.deepcopy(opt)
    opt.step({"b": np.ones(2), "c": np.ones(2)})
    opt.extend({"a": np.ones(2), **params})
    assert list(opt.params) == ["a", "b", "c"]
    with unchanged(opt):
        opt.extend(opt._held.tree)
    twin.step({"b": np.ones(2), "c": np.ones(2)})
    for name in ("b", "c"):
        assert_same_bits(opt.params[name], twin.params[name])


def test_arrays_are_adopted_as_in_rebind() -> None:
    opt = thalweg.AdamW({"w": np.ones(2)})
    opt.step({"w": np.ones(2)})
    fresh = {"w": np.zeros(2), "v": np.ones(2)}
    opt.extend(fresh)
    opt.step({"w": np.ones(2), "v": np.ones(2)})
    assert opt.params["w"] is fresh["w"]
    assert fresh["w"].all()
    assert (opt.state["w"]["step"], opt.state["v"]["step"]) == (2, 1)


TIED = np.ones(2)
MISFITS: dict[str, tuple[Callable[[Any], Any], Any, type[Exception], str]] = {
    "missing": (lambda _: {"v": np.ones(2)}, [], ValueError, "missing: 'w'; make a new optimizer"),
    "shape": (lambda _: {"w": np.ones(3), "v": np.ones(2)}, [], ValueError, "'w' must be float64"),
    "dtype": (
        lambda p: {**p, "v": np.arange(2)},
        [],
        TypeError,
        "'v' must have dtype .*, got int64",
    ),
    "read-only": (
        lambda p: {**p, "v": np.broadcast_to(1.0, 2)},
        [],
        ValueError,
        "'v' is read-only",
    ),
    "tied": (lambda p: {**p, "v": p["w"]}, [], ValueError, "'w' and parameter 'v' share memory"),
    "no match": (lambda p: {**p, "v": np.ones(2)}, [{"match": "w"}], ValueError, "nothing: 'w'"),
    "no key": (
        lambda p: {**p, "v": np.ones(2)},
        [{"match": "v", "momentum": 0.9}],
        TypeError,
        "no 'momentum'",
    ),
    "no value": (
        lambda p: {**p, "v": np.ones(2)},
        [{"match": "v", "lr": -1.0}],
        ValueError,
        "lr must be",
    ),
    "no group": (lambda p: {**p, "v": np.ones(2)}, {"match": "v"}, TypeError, "groups must be"),
    "too small": (
        lambda p: {**p, "v": np.ones(2, np.float32)},
        [{"match": "v", "eps": 1e-20}],
        ValueError,
        "eps must be",
    ),
}


@pytest.mark.parametrize(("extended", "groups", "error", "message"), MISFITS.values(), ids=MISFITS)
def test_one_misfit_refuses_the_whole_extension(
    extended: Callable[[Any], Any], groups: Any, error: type[Exception], message: str
) -> None:
    params = {"w": np.ones(2)}
    opt = thalweg.AdamW(params)
    ema = thalweg.EMA(opt, 0.9)
    opt.step({"w": np.ones(2)})
    with unchanged(opt), pytest.raises(error, match=message):
        opt.extend(extended(params), groups)
    assert (opt._held.tree, list(ema._mirrored.arrays)) == (params, ["w"])
    opt.step({"w": np.ones(2)})


def test_a_callable_match_that_raises_changes_nothing() -> None:
    calls: list[str] = []

    def touchy(name: str, _: Any) -> bool:
        calls.append(name)
        if name == "v":
            raise KeyError(name)
        return True

    opt = thalweg.AdamW({"w": np.ones(2)}, groups=[{"match": touchy, "lr_scale": 0.5}])
    with unchanged(opt), pytest.raises(KeyError, match="v"):
        opt.extend({**opt._held.tree, "v": np.ones(2)})
    assert calls == ["w", "v"]


@every_rule
def test_a_state_dict_has_added_parameters_and_resumes_with_the_same_bits(rule: Rule) -> None:
    params = parameters()
    added = params.pop("middle")
    opt = rule.make(params)
    opt.step({name: gradients(1)[name] for name in params})
    old = opt.state_dict()
    opt.extend(grown(opt, middle=added), groups=[{"match": "middle", "lr_scale": 0.5}])
    opt.step(gradients(2))
    other = rule.make(copy.deepcopy(opt._held.tree), groups=[{"match": "middle", "lr_scale": 0.5}])
    other.load_state_dict(opt.state_dict())
    for one in (opt, other):
        one.step(gradients(3))
    assert_same(opt, other, *opt.params)
    with unchanged(opt), pytest.raises(ValueError, match="missing: 'middle'"):
        opt.load_state_dict(old)

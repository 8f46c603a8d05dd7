"""Schedules are saved and loaded with an optimizer; a resumed run has the same bits."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from conftest import unchanged
from schedules import EXAMPLES
from state_dicts import model, same_bits, through_json, train
from thalweg import SGD, SGDW, Adam, AdamW, Optimizer
from thalweg.schedule import (
    Schedule,
    constant,
    cosine,
    cosine_restarts,
    exponential,
    linear,
    one_cycle,
    piecewise_constant,
    zero_based,
)

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS: list[tuple[Any, dict[str, Any]]] = [
    *((AdamW, {"lr": s}) for s in EXAMPLES),
    (AdamW, {"weight_decay": 0.1 * cosine(20)}),
    (AdamW, {"weight_decay": 0.1 * cosine_restarts(7), "independent": True}),
    (Adam, {"l2": linear(20, warmup=3), "amsgrad": True}),
    (AdamW, {"betas": (one_cycle(20).momentum(), 0.99)}),
    (AdamW, {"betas": (one_cycle(20).momentum(), 1 + -0.1 * exponential(0.9)), "lr": cosine(20)}),
    (AdamW, {"eps": 1e-6 * exponential(0.9, final=0.5)}),
    (SGD, {"lr": one_cycle(20), "momentum": one_cycle(20).momentum(), "nesterov": True}),
    (SGDW, {"lr": 0.1, "momentum": 0.9, "dampening": piecewise_constant({1: 0, 5: 0.5, 14: 1})}),
    (AdamW, {"groups": [{"match": "fc.*", "lr_scale": cosine(20), "eps": constant(1e-7)}]}),
    (
        AdamW,
        {
            "lr": 1e-2 * cosine(20),
            "groups": [
                {"match": "*", "lr_scale": 0.5},
                {"match": "fc.*", "lr_scale": linear(20), "betas": (0.9, constant(0.9))},
            ],
        },
    ),
]


def numbers_instead(options: Any) -> Any:
    """The same options with a number for every schedule."""
    if isinstance(options, dict):
        return {key: numbers_instead(value) for key, value in options.items()}
    if isinstance(options, list | tuple):
        return type(options)(map(numbers_instead, options))
    return 0.5 if isinstance(options, Schedule) else options


@pytest.mark.parametrize("transport", [copy.deepcopy, through_json])
@pytest.mark.parametrize(("cls", "options"), RUNS, ids=lambda value: repr(value)[:60])
def test_a_run_resumes_in_the_middle_of_a_schedule(
    cls: Any, options: dict[str, Any], transport: Callable[[Any], Any]
) -> None:
    straight = cls(model(), **options)
    train(straight, 30)
    first = cls(model(), **options)
    train(first, 11)
    saved = transport(first.state_dict())
    same = cls(copy.deepcopy(first._held.tree), **options)
    assert same.load_state_dict(saved).changed == {}
    other = cls(copy.deepcopy(first._held.tree), **{"lr": 0.1, **numbers_instead(options)})
    with pytest.warns(UserWarning, match=r"0\.\d+.* -> .*\w\("):
        assert other.load_state_dict(saved).changed
    for resumed in (same, other):
        train(resumed, 19)
        assert same_bits(resumed, straight)


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))],  # noqa: S301 - our own bytes
    ids=["deepcopy", "pickle"],
)
@pytest.mark.parametrize(("cls", "options"), RUNS, ids=lambda value: repr(value)[:60])
def test_a_copy_continues_in_the_middle_of_a_schedule(
    cls: Any, options: dict[str, Any], duplicate: Callable[[Any], Any]
) -> None:
    straight = cls(model(), **options)
    train(straight, 30)
    params = model()
    opt = cls(params, **options)
    train(opt, 11)
    _, other = duplicate((params, opt))
    train(other, 19)
    assert same_bits(other, straight)


def test_step_t_uses_the_value_at_t() -> None:
    s = 0.1 * cosine(20, warmup=5)
    opt = AdamW(model(), lr=s)
    for step in range(1, 25):
        assert opt.step({"out.0": np.ones(2)}, partial=True).lr == s(step)


def test_a_schedule_is_saved_as_json() -> None:
    opt = AdamW(model(), lr=0.1 * cosine(20), betas=(one_cycle(20).momentum(), 0.99))
    (group,) = opt.state_dict()["groups"]
    cosine_ = {"schedule": "cosine", "total": 20}
    assert group["lr"] == {"schedule": {"schedule": "product", "left": 0.1, "right": cosine_}}
    momentum = {"schedule": "one_cycle_momentum", "total": 20}
    assert group["betas"] == [{"schedule": momentum}, 0.99]
    json.dumps(opt.state_dict()["groups"], allow_nan=False)


def load(opt: Optimizer, saved: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return opt.load_state_dict(saved)


@pytest.mark.parametrize(
    ("saved", "mine", "changed"),
    [
        (cosine(20), cosine(20), False),
        (cosine(20), cosine(20, warmup=0, peak=1), False),
        (cosine(20), cosine(21), True),
        (cosine(20), linear(20), True),
        (cosine(20), 0.1, True),
        (0.1, cosine(20), True),
        (cosine(20), lambda step: 1 / step, True),
    ],
)
def test_a_saved_schedule_replaces_another_and_the_change_is_listed(
    saved: Any, mine: Any, changed: bool
) -> None:
    opt = AdamW(model(), lr=mine)
    report = load(opt, AdamW(model(), lr=saved).state_dict())
    assert report.changed == ({"groups[0].lr": (mine, saved)} if changed else {})
    assert opt.lr == saved
    opt = AdamW(model(), lr=mine)
    opt.load_state_dict(AdamW(model(), lr=saved).state_dict(), hyperparameters="current")
    assert opt.lr is mine or opt.lr == mine


def halve(epoch: int) -> float:
    return 0.5**epoch


@pytest.mark.parametrize("s", [zero_based(halve), 0.1 * zero_based(halve) + 0.2])
def test_a_function_in_a_schedule_is_saved_by_name_and_kept_when_loading(s: Schedule) -> None:
    saved = AdamW(model(), lr=s).state_dict()
    assert saved["groups"][0]["lr"] == {"callable": repr(s)}
    assert f"{__name__}.halve" in repr(s)
    opt = AdamW(model(), lr=s)
    assert opt.load_state_dict(saved).changed == {}
    assert opt.lr is s
    number = AdamW(model(), lr=0.1)
    with unchanged(number), pytest.raises(ValueError, match=r"groups\[0\]\.lr: .*halve.*0\.1"):
        number.load_state_dict(saved)


@pytest.mark.parametrize(
    "damage",
    [
        None,
        3,
        "cosine",
        {},
        {"schedule": "cosin", "total": 20},
        {"schedule": "cosine"},
        {"schedule": "cosine", "total": -20},
        {"schedule": "cosine", "total": 20, "extra": 1},
        {"schedule": "product", "left": 0.1, "right": {"schedule": "cosine", "total": None}},
    ],
    ids=repr,
)
@pytest.mark.parametrize("key", ["lr", "betas", "lr_scale"])
def test_a_damaged_schedule_is_listed_with_other_damage_and_nothing_is_loaded(
    key: str, damage: Any
) -> None:
    saved = AdamW(model(), groups=[{"match": "fc.*", "lr_scale": cosine(20)}]).state_dict()
    damaged = {"schedule": damage}
    position = 1 if key == "lr_scale" else 0
    saved["groups"][position][key] = [damaged, 0.999] if key == "betas" else damaged
    saved["state"]["out.0"]["step"] = -1
    opt = AdamW(model())
    train(opt, 3)
    with unchanged(opt), pytest.raises(ValueError, match="nothing was loaded") as told:
        opt.load_state_dict(saved)
    assert f"\n- groups[{position}].{key}: " in str(told.value)
    assert "\n- state of 'out.0': step must be a whole number from 0 to 2**63 - 1, got -1" in str(
        told.value
    )


def test_a_schedule_that_leaves_its_range_is_refused_at_that_step() -> None:
    opt = AdamW(model(), lr=linear(5, peak=0.1, final=-0.1))
    grads = {"out.0": np.ones(2)}
    for _ in range(3):
        opt.step(grads, partial=True)
    with unchanged(opt), pytest.raises(ValueError, match=r"^lr must be .* -0\.05 at step 4$"):
        opt.step(grads, partial=True)

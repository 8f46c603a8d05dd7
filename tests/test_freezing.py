"""Freezing and thawing during a run: which parameters move, with which state; what is refused.

Arrays and gradients of frozen parameters are tested in `test_groups.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from arrays import assert_same_bits
from conftest import unchanged
from leafwise import NAMES, alone, arrays, assert_same, gradients, parameters
from rules import RULES, Rule, every_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STEPS = 9


def frozen(*names: str) -> list[dict[str, Any]]:
    return [{"match": name, "frozen": name in names} for name in NAMES]


def train(opt: thalweg.Optimizer, steps: Sequence[int], **how: Any) -> None:
    for step in steps:
        opt.step(gradients(step), **how)


@every_rule
def test_thawed_parameters_start_at_their_first_step_and_the_others_continue(
    rule: Rule,
) -> None:
    params = parameters()
    opt = rule.make(params, groups=frozen("low", "middle"))
    started = {"high": 1, "middle": 4, "low": 7}
    for step in range(1, STEPS + 1):
        for position, name in enumerate(NAMES, start=1):
            if started[name] == step > 1:
                opt.groups[position].frozen = False
        assert opt.step(gradients(step)).step == step
        assert set(opt.state) == {name for name in NAMES if started[name] <= step}
    for name, start in started.items():
        steps = range(start, STEPS + 1)
        assert opt.state[name]["step"] == len(steps)
        assert_same(opt, alone(rule, name, steps), name)


@every_rule
def test_a_parameter_that_is_frozen_and_thawed_continues_with_its_state(rule: Rule) -> None:
    opt = rule.make(parameters(), groups=frozen())
    train(opt, [1, 2, 3])
    live = arrays(opt, "middle")
    before = {key: array.copy() for key, array in live.items()}
    opt.groups[2].frozen = True
    train(opt, [4, 5])
    for key, array in live.items():
        assert_same_bits(array, before[key])
    opt.groups[2].frozen = False
    train(opt, [6, 7])
    assert_same(opt, alone(rule, "middle", [1, 2, 3, 6, 7]), "middle")
    assert_same(opt, alone(rule, "high", range(1, 8)), "high")
    assert all(array is live[key] for key, array in arrays(opt, "middle").items())


def test_gradients_of_frozen_parameters_do_not_count_in_norm_clipping_and_checks() -> None:
    opt = RULES["SGD"].make(parameters(), groups=frozen("low"))
    grads = {"low": np.full((4, 5), np.nan), "middle": np.zeros((4, 5)), "high": np.ones((4, 5))}
    report = opt.step(grads, max_norm=1.0)
    assert report.grad_norm == pytest.approx(np.sqrt(20.0))
    assert report.clip == pytest.approx(1 / np.sqrt(20.0))
    assert not report.nonfinite
    opt.groups[1].frozen = False
    with unchanged(opt), pytest.raises(thalweg.NonFiniteError, match="low"):
        opt.step(grads, max_norm=1.0)
    report = opt.step({**grads, "low": np.ones((4, 5))}, max_norm=1.0)
    assert report.grad_norm == pytest.approx(np.sqrt(40.0))


@every_rule
def test_clipping_equals_that_of_an_optimizer_without_the_frozen_parameters(rule: Rule) -> None:
    opt = rule.make(parameters(), groups=frozen("low"))
    train(opt, [1, 2], max_norm=0.5)
    opt.groups[1].frozen = False
    opt.groups[2].frozen = True
    train(opt, [3], max_norm=0.5)
    without_low = rule.make({name: p for name, p in parameters().items() if name != "low"})
    for step in (1, 2):
        grads = {name: g for name, g in gradients(step).items() if name != "low"}
        without_low.step(grads, max_norm=0.5)
    assert_same(opt, without_low, "middle")
    start = {"low": parameters()["low"], "high": without_low.params["high"]}
    norm = thalweg.functional.global_norm([gradients(3)[name] for name in sorted(start)])
    assert norm > 0.5
    fresh = rule.make({"low": start["low"]})
    fresh.step({"low": gradients(3)["low"]}, scale=0.5 / norm)
    assert_same(opt, fresh, "low")


def test_a_gradient_is_required_from_the_thaw_on() -> None:
    opt = RULES["AdamW"].make(parameters(), groups=frozen("low"))
    grads = {name: g for name, g in gradients(1).items() if name != "low"}
    opt.step(grads)
    opt.groups[1].frozen = False
    with unchanged(opt), pytest.raises(ValueError, match="'low'"):
        opt.step(grads)


def test_schedules_use_the_step_of_the_run_and_bias_correction_that_of_the_parameter() -> None:
    opt = thalweg.Adam(parameters(), lr=lambda step: 0.1 / step, groups=frozen("low"))
    train(opt, [1, 2, 3])
    opt.groups[1].frozen = False
    train(opt, [4])
    moved = np.abs(opt.params["low"] - parameters()["low"])
    assert moved == pytest.approx(0.1 / 4, rel=1e-4)  # Adam's first step has the length lr


@pytest.mark.parametrize("when", ["frozen", "thawed"])
@every_rule
def test_a_run_resumes_with_the_same_bits_before_and_after_a_thaw(rule: Rule, when: str) -> None:
    opt = rule.make(parameters(), groups=frozen("low"))
    train(opt, [1, 2])
    if when == "thawed":
        opt.groups[1].frozen = False
        train(opt, [3])
    other = rule.make({name: p.copy() for name, p in opt.params.items()}, groups=frozen("low"))
    saved = opt.state_dict()
    assert ("low" in saved["state"]) == (when == "thawed")
    if when == "thawed":
        with pytest.warns(UserWarning, match=r"groups\[1\]\.frozen: True -> False"):
            other.load_state_dict(saved)
    else:
        other.load_state_dict(saved)
    for one in (opt, other):
        one.groups[1].frozen = False
        train(one, [4, 5])
    assert_same(opt, other, *NAMES)


def test_a_state_dict_without_a_parameter_that_trains_names_it() -> None:
    opt = RULES["AdamW"].make(parameters(), groups=frozen())
    train(opt, [1])
    other = RULES["AdamW"].make(parameters(), groups=frozen("low"))
    with unchanged(opt), pytest.raises(ValueError, match="missing: 'low'"):
        opt.load_state_dict(other.state_dict(), hyperparameters="current")
    report = opt.load_state_dict(other.state_dict(), hyperparameters="current", strict=False)
    assert report.missing == ("low",)


@pytest.mark.parametrize("hyperparameters", ["saved", "current"])
@pytest.mark.parametrize("here", ["fresh", "with a history of its own"])
@pytest.mark.parametrize("there", ["trained", "frozen from the start"])
@every_rule
def test_a_parameter_saved_frozen_thaws_as_in_the_uninterrupted_run(
    rule: Rule, there: str, here: str, hyperparameters: str
) -> None:
    opt = rule.make(parameters(), groups=frozen(*["low"] * (there != "trained")))
    train(opt, [1, 2])
    opt.groups[1].frozen = True
    saved = opt.state_dict()
    assert ("low" in saved["state"]) == (there == "trained")
    params = {name: p.copy() for name, p in opt.params.items()}
    other = rule.make(params, groups=frozen(*["low"] * (here == "fresh")))
    if here != "fresh":
        train(other, [7])
        other.groups[1].frozen = True
        for name, p in opt.params.items():
            params[name][...] = p
    other.load_state_dict(saved, hyperparameters=hyperparameters)
    for one in (opt, other):
        train(one, [3])
        one.groups[1].frozen = False
        train(one, [4, 5])
    assert_same(opt, other, *NAMES)


UNFIT: dict[str, Callable[[Any], Any]] = {
    "integers": lambda p: p.astype(int),
    "another shape": lambda p: p[:2],
    "read-only": lambda p: np.broadcast_to(p[0], p.shape),
    "masked": np.ma.masked_array,
    "a string": lambda _: "low",
}


@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT)
def test_state_of_a_parameter_that_cannot_train_here_is_refused_or_left_out(
    unfit: Callable[[Any], Any],
) -> None:
    opt = RULES["AdamW"].make(parameters(), groups=frozen())
    train(opt, [1, 2])
    params = parameters()
    params["low"] = unfit(params["low"])
    other = RULES["AdamW"].make(params, groups=frozen("low"))
    how = {"hyperparameters": "current"}
    with pytest.raises(ValueError, match=r"nothing was loaded:\n.*'low'"):
        other.load_state_dict(opt.state_dict(), **how)
    assert other.step_count == 0
    report = other.load_state_dict(opt.state_dict(), strict=False, **how)
    assert "low" in str((report.unexpected, report.mismatched))
    assert "low" not in other.state
    assert (other.step_count, other.state["high"]["step"]) == (2, 2)


def test_changes_of_a_frozen_array_do_not_prevent_saving() -> None:
    params = parameters()
    opt = RULES["AdamW"].make(params, groups=frozen())
    train(opt, [1])
    opt.groups[1].frozen = True
    before = opt.state_dict()["state"]["low"]
    params["low"].setflags(write=False)
    params["low"] = "elsewhere"
    after = opt.state_dict()["state"]["low"]
    assert after["step"] == before["step"] == 1
    assert_same_bits(after["exp_avg"], before["exp_avg"])


def test_reset_includes_frozen_parameters() -> None:
    opt = RULES["AdamW"].make(parameters(), groups=frozen())
    train(opt, [1, 2])
    opt.groups[1].frozen = True
    opt.reset("low")
    assert opt.state["low"]["step"] == 0
    assert not opt.state["low"]["exp_avg"].any()


def replaced(params: dict[str, Any]) -> None:
    params["low"] = params["low"].copy()


def read_only(params: dict[str, Any]) -> None:
    params["low"].setflags(write=False)


def resized(params: dict[str, Any]) -> None:
    params["low"].resize(30, refcheck=False)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [(replaced, r"'low'.*rebind"), (read_only, "'low'.* read-only"), (resized, "'low'")],
)
def test_an_array_that_changed_while_frozen_is_refused_after_the_thaw(
    change: Callable[[dict[str, Any]], None], message: str, *, trained: bool
) -> None:
    params = parameters()
    opt = RULES["AdamW"].make(params, groups=frozen() if trained else frozen("low"))
    train(opt, [1])
    opt.groups[1].frozen = True
    change(params)
    train(opt, [2])

    def thaw_and_train() -> None:
        opt.groups[1].frozen = False
        train(opt, [3])

    with pytest.raises(ValueError, match=message):
        thaw_and_train()
    assert opt.step_count == 2
    assert opt.state["high"]["step"] == 2


def test_an_array_that_was_replaced_while_frozen_trains_after_rebind() -> None:
    params = parameters()
    opt = RULES["AdamW"].make(params, groups=frozen("low"))
    train(opt, [1])
    params["low"] = np.zeros((4, 5), np.float32)
    opt.rebind(params)
    opt.groups[1].frozen = False
    train(opt, [2])
    assert opt.state["low"]["step"] == 1
    assert params["low"].all()


def test_integers_cannot_be_thawed() -> None:
    params = {"w": np.ones(3), "table": np.arange(3)}
    opt = thalweg.AdamW(params, groups=[{"match": "table", "frozen": True}])
    opt.step({"w": np.ones(3)})
    with unchanged(opt), pytest.raises(TypeError, match=r"'table' must have dtype .*, got int64"):
        opt.groups[1].frozen = False
    opt.step({"w": np.ones(3)})
    assert (params["table"] == np.arange(3)).all()


def test_overlapping_views_train_in_turns_and_never_together() -> None:
    store = np.ones(5)
    params = {"left": store[:3], "right": store[2:]}
    groups = [{"match": "left"}, {"match": "right", "frozen": True}]
    opt = thalweg.SGD(params, lr=0.5, momentum=0.9, groups=groups)
    left, right = opt.groups[1:]
    grads = {name: np.ones(3) for name in params}
    opt.step(grads)
    for thawing, freezing in [(right, left), (left, right)]:
        with unchanged(opt), pytest.raises(ValueError, match="share memory"):
            thawing.frozen = False
        freezing.frozen = True
        thawing.frozen = False
        opt.step(grads)
    assert [opt.state[name]["step"] for name in params] == [2, 1]

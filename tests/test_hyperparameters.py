"""Hyperparameters: their ranges and types, and schedules in their place."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from conftest import unchanged
from thalweg import SGD, SGDW, Adam, AdamW

if TYPE_CHECKING:
    from collections.abc import Callable

TINY = 5e-324

RANGES = [
    # class, key, allowed, refused
    (AdamW, "lr", [0, TINY, 1e300], [-TINY, -1.0]),
    (AdamW, "weight_decay", [0, TINY, 1e300], [-TINY, -1.0]),
    (SGDW, "weight_decay", [0, TINY], [-TINY]),
    (Adam, "l2", [0, TINY, 1e300], [-TINY, -1.0]),
    (SGD, "l2", [0, TINY], [-TINY]),
    (SGD, "momentum", [0, 1], [-TINY, math.nextafter(1, 2), 1.5]),
    (SGD, "dampening", [0, 1], [-TINY, math.nextafter(1, 2)]),
    (AdamW, "betas[0]", [0, math.nextafter(1, 0)], [-TINY, 1, 2]),
    (AdamW, "betas[1]", [0, math.nextafter(1, 0)], [-TINY, 1, 2]),
    (AdamW, "eps", [1e-15, 1e300], [math.nextafter(1e-15, 0), 0, -1.0]),
]

NEVER = [math.nan, math.inf, -math.inf, 10**400]
NO_NUMBERS = ["0.1", None, True, np.True_, 0.1j, [0.1], {}, b"1"]
NUMBERS = [0.25, Fraction(1, 4), np.float64(0.25), np.float32(0.25), np.array(0.25)]


def build(cls: Any, key: str, value: Any, dtype: Any = np.float32, **options: Any) -> Any:
    if key.startswith("betas"):
        options["betas"] = (value, 0.999) if key == "betas[0]" else (0.9, value)
    else:
        options[key] = value
    return cls({"w": np.ones(2, dtype)}, **{"lr": 0.1, **options})


def value_of(opt: Any, key: str) -> Any:
    return opt.groups[0].betas[int(key[6])] if key[-1] == "]" else getattr(opt.groups[0], key)


@pytest.mark.parametrize(
    ("cls", "key", "value"), [(cls, key, v) for cls, key, allowed, _ in RANGES for v in allowed]
)
def test_ranges_include_their_ends(cls: Any, key: str, value: float) -> None:
    opt = build(cls, key, value)
    assert value_of(opt, key) == value
    assert type(value_of(opt, key)) is float


@pytest.mark.parametrize(
    ("cls", "key", "value"),
    [(cls, key, v) for cls, key, _, refused in RANGES for v in [*refused, *NEVER]],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value)[:12],
)
def test_values_out_of_range_are_refused(cls: Any, key: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(key)} must be .*, got -?\S"):
        build(cls, key, value)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize(("cls", "key"), [row[:2] for row in RANGES])
def test_values_that_are_no_numbers_are_refused(cls: Any, key: str, value: Any) -> None:
    if (key, value) == ("weight_decay", None):
        return  # stands for the default
    with pytest.raises(TypeError, match=re.escape(key)):
        build(cls, key, value)


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
@pytest.mark.parametrize(("cls", "key"), [row[:2] for row in RANGES])
def test_numbers_of_every_type_are_accepted(cls: Any, key: str, value: Any) -> None:
    opt = build(cls, key, value)
    assert value_of(opt, key) == 0.25
    assert type(value_of(opt, key)) is float


@pytest.mark.parametrize(
    ("dtype", "least"), [(np.float32, 1e-15), (np.float64, 1e-120)], ids=["float32", "float64"]
)
def test_eps_has_a_minimum_for_each_type(dtype: Any, least: float) -> None:
    opt = build(AdamW, "eps", least, dtype)
    with unchanged(opt), pytest.raises(ValueError, match=f"eps .*{np.dtype(dtype).name}"):
        opt.groups[0].eps = math.nextafter(least, 0)
    opt.groups[0].eps = lambda _: math.nextafter(least, 0)
    with unchanged(opt), pytest.raises(ValueError, match=r"eps .* at step 1"):
        opt.step({"w": np.ones(2)})


def test_eps_is_checked_for_each_parameter() -> None:
    params = {"single": np.ones(2, np.float32), "double": np.ones(2)}
    opt = AdamW(params, groups=[{"match": "double", "eps": 1e-100}])
    assert opt.resolve("double")["eps"] == 1e-100
    with pytest.raises(ValueError, match="eps"):
        AdamW(params, groups=[{"match": "*", "eps": 1e-100}])


@pytest.mark.parametrize("cls", [SGD, SGDW])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "momentum"),
        ({"momentum": 0.0}, "momentum"),
        ({"momentum": 0.9, "dampening": 0.1}, "dampening"),
        ({"momentum": 0.9, "groups": [{"match": "w", "momentum": 0.0}]}, "momentum"),
    ],
)
def test_nesterov_needs_momentum(cls: Any, options: dict[str, Any], named: str) -> None:
    params = {"w": np.ones(2)}
    with pytest.raises(ValueError, match=f"{named} .*nesterov"):
        cls(params, lr=0.1, nesterov=True, **options)
    opt = cls(params, lr=0.1, nesterov=True, momentum=0.9)
    with unchanged(opt), pytest.raises(ValueError, match=r"dampening .*nesterov"):
        opt.groups[0].dampening = 0.1


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda p: Adam(p, weight_decay=0.1), "AdamW"),
        (lambda p: AdamW(p, l2=0.1), "Adam, "),
        (lambda p: SGD(p, lr=0.1, weight_decay=0.1), "SGDW"),
        (lambda p: SGDW(p, lr=0.1, l2=0.1), " SGD, "),
        (lambda p: AdamW(p, independent=True), "independent=True .*weight_decay"),
        (lambda p: SGDW(p, lr=0.1, independent=True), "independent=True .*weight_decay"),
        (lambda p: Adam(p, independent=True), "independent"),
        (lambda p: AdamW(p, betas=[0.9, 0.999], amsgard=True), "amsgard"),
        (SGD, "lr"),
        (SGDW, "lr"),
        (lambda p: AdamW(p, amsgrad=1), "amsgrad must be True or False"),
        (lambda p: AdamW(p, maximize="yes"), "maximize must be True or False"),
        (lambda p: SGD(p, lr=0.1, nesterov=0), "nesterov must be True or False"),
        (lambda p: SGDW(p, lr=0.1, independent=None), "independent must be True or False"),
        (lambda p: AdamW(p, nonfinite=None), "nonfinite"),
    ],
)
def test_wrong_arguments_are_refused_with_advice(make: Callable[[Any], Any], named: str) -> None:
    with pytest.raises(TypeError, match=named):
        make({"w": np.ones(2)})


def test_nonfinite_has_three_values() -> None:
    with pytest.raises(ValueError, match=r"'raise', 'skip' or 'ignore'.*zero"):
        AdamW({"w": np.ones(2)}, nonfinite="zero")


def test_independent_decay_is_not_multiplied_by_lr() -> None:
    for cls in (AdamW, SGDW):
        params = {"w": np.ones(2)}
        cls(params, lr=0.5, weight_decay=0.25, independent=True).step({"w": np.zeros(2)})
        assert (params["w"] == 0.75).all()


SCHEDULED = [*dict.fromkeys(row[:2] for row in RANGES), (AdamW, "lr_scale")]


def scheduled(cls: Any, key: str, schedule: Callable[[int], Any], **options: Any) -> Any:
    if key == "lr_scale":
        return cls({"w": np.ones(2)}, groups=[{"match": "w", key: schedule}], **options)
    return build(cls, key, schedule, np.float64, **options)


@pytest.mark.parametrize(("cls", "key"), SCHEDULED)
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (math.nan, ValueError),
        (math.inf, ValueError),
        (-1.0, ValueError),
        (10**400, ValueError),
        ("0.1", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_a_wrong_value_from_a_schedule_changes_nothing(
    cls: Any, key: str, wrong: Any, error: type[Exception]
) -> None:
    good = {True: 0.5}
    opt = scheduled(cls, key, lambda step: good.get(step < 3, wrong))
    grads = {"w": np.ones(2)}
    opt.step(grads)
    opt.step(grads)
    for _ in range(2):
        with unchanged(opt), pytest.raises(error, match=rf"^{re.escape(key)} .*step 3"):
            opt.step(grads)
    good[False] = 0.25
    assert opt.step(grads).step == 3


class TakesNoNoteError(Exception):
    def add_note(self, note: str) -> None:
        raise ValueError(note)

    @property
    def __notes__(self) -> list[str]:
        return ["its own"]


@pytest.mark.parametrize(("cls", "key"), SCHEDULED)
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, TakesNoNoteError])
def test_an_exception_in_a_schedule_propagates_with_a_note(
    cls: Any, key: str, error: type[BaseException]
) -> None:
    def interrupted(step: int) -> float:
        if step == 3:
            raise error("the user's")
        return 0.5

    opt = scheduled(cls, key, interrupted)
    grads = {"w": np.ones(2)}
    opt.step(grads)
    opt.step(grads)
    for _ in range(2):
        with unchanged(opt), pytest.raises(error) as raised:
            opt.step(grads)
        assert raised.value.args == ("the user's",)
        expected = "its own" if error is TakesNoNoteError else f"in {key} at step 3"
        assert raised.value.__notes__ == [expected]


def test_a_schedule_is_called_once_a_step() -> None:
    calls = []

    def schedule(step: int) -> float:
        calls.append(step)
        return 1 / step

    params = {name: np.ones(2) for name in "abcd"}
    groups = [{"match": ["a", "b"], "lr": schedule}, {"match": "b", "weight_decay": schedule}]
    opt = AdamW(params, lr=schedule, groups=groups)
    grads = {name: np.ones(2) for name in params}
    for step in (1, 2, 3):
        assert opt.step({**grads, "c": None if step == 1 else grads["c"]}).lr == 1 / step
    assert calls == [1, 2, 3]
    assert opt.step_count == 3
    assert opt.state["c"]["step"] == 2


@pytest.mark.parametrize(("cls", "key"), SCHEDULED)
def test_a_schedule_equals_the_assignment_of_its_numbers(cls: Any, key: str) -> None:
    scheduled_, edited = (scheduled(cls, key, lambda step: 0.5**step) for _ in range(2))
    rng = np.random.default_rng(1)
    for step in (1, 2, 3):
        value = 0.5**step
        group = edited.groups[-1]
        if key.startswith("betas"):
            other = group.betas
            group.betas = (value, other[1]) if key == "betas[0]" else (other[0], value)
        elif key != "momentum":
            setattr(group, key, value)
        grads = {"w": rng.normal(size=2)}
        assert scheduled_.step(grads) == edited.step(grads)
    assert np.array_equal(scheduled_.params["w"], edited.params["w"])


def test_a_schedule_cannot_step_or_edit() -> None:
    def meddle(step: int) -> float:
        with pytest.raises(thalweg.BusyError, match="already in use"):
            opt.step({"w": np.ones(2)})
        with pytest.raises(thalweg.BusyError):
            opt.groups[0].weight_decay = 1.0
        with pytest.raises(thalweg.BusyError):
            opt.reset()
        return float(step)

    opt = AdamW({"w": np.ones(2)}, lr=meddle)
    assert opt.step({"w": np.ones(2)}).step == 1
    assert opt.resolve("w")["weight_decay"] == 0.01

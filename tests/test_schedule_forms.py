"""Schedules as values: construction, comparison, arithmetic, representation, JSON, copies."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
import re
import subprocess
import sys
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given

import thalweg
from schedules import EXAMPLES, KINDS, STEPS, evaluated, schedules
from thalweg import schedule
from thalweg.schedule import (
    Schedule,
    constant,
    cosine,
    cosine_restarts,
    exponential,
    from_json,
    inverse_sqrt,
    linear,
    one_cycle,
    piecewise_constant,
    piecewise_interpolated,
    polynomial,
    triangular,
    warmup,
    warmup_stable_decay,
    zero_based,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def values(s: Schedule) -> list[str]:
    return [float(s(step)).hex() for step in STEPS]


def restored(s: Schedule) -> Schedule:
    return from_json(json.loads(json.dumps(s.to_json(), allow_nan=False)))


def same(one: Schedule, other: Schedule) -> bool:
    return one == other and hash(one) == hash(other) and values(one) == values(other)


COPIES: list[Callable[[Schedule], Schedule]] = [
    restored,
    lambda s: evaluated(repr(s)),
    lambda s: pickle.loads(pickle.dumps(s)),  # noqa: S301 - our own bytes
    copy.deepcopy,
    copy.copy,
]


def test_there_is_an_example_of_every_kind() -> None:
    shown = "\n".join(map(repr, EXAMPLES))
    assert {name for name in KINDS if f"{name}(" in shown} == KINDS - {"zero_based"}


@pytest.mark.parametrize("duplicate", COPIES)
@pytest.mark.parametrize("s", EXAMPLES, ids=repr)
def test_a_schedule_survives_every_transport(
    s: Schedule, duplicate: Callable[[Schedule], Schedule]
) -> None:
    assert same(duplicate(s), s)
    assert repr(duplicate(s)) == repr(s)


@given(schedules)
def test_json_and_representation_give_back_any_schedule(s: Schedule) -> None:
    assert same(restored(s), s)
    assert same(evaluated(repr(s)), s)


@pytest.mark.parametrize(
    ("s", "text", "value"),
    [
        (
            cosine(1000, warmup=100, final=0),
            "cosine(total=1000, warmup=100)",
            {"schedule": "cosine", "total": 1000, "warmup": 100},
        ),
        (
            piecewise_constant({4: 2, 1: 1}),
            "piecewise_constant({1: 1.0, 4: 2.0})",
            {"schedule": "piecewise_constant", "values": [[1, 1.0], [4, 2.0]]},
        ),
        (
            2 * constant(3).then(linear(5), at=7),
            "2.0 * constant(value=3.0).then(linear(total=5), at=7)",
            {
                "schedule": "product",
                "left": 2.0,
                "right": {
                    "schedule": "then",
                    "first": {"schedule": "constant", "value": 3.0},
                    "second": {"schedule": "linear", "total": 5},
                    "at": 7,
                },
            },
        ),
    ],
)
def test_defaults_are_left_out(s: Schedule, text: str, value: dict[str, Any]) -> None:
    assert repr(s) == text
    assert s.to_json() == value


a, b, c = (linear(total) for total in (2, 3, 4))
A, B, C = map(repr, (a, b, c))


@pytest.mark.parametrize(
    ("s", "text"),
    [
        (a + b + c, f"{A} + {B} + {C}"),
        (a + (b + c), f"{A} + ({B} + {C})"),
        (a * b + c, f"{A} * {B} + {C}"),
        (a * (b + c), f"{A} * ({B} + {C})"),
        ((a + b) * 2, f"({A} + {B}) * 2.0"),
        (2 * (3 * a), f"2.0 * (3.0 * {A})"),
        (2 * a * 3, f"2.0 * {A} * 3.0"),
        (-1 + a * -2, f"-1.0 + {A} * -2.0"),
        ((a + b).then(c + a, at=2), f"({A} + {B}).then({C} + {A}, at=2)"),
        (a.then(b, at=2).then(c, at=3), f"{A}.then({B}, at=2).then({C}, at=3)"),
        (a.then(b.then(c, at=3), at=2), f"{A}.then({B}.then({C}, at=3), at=2)"),
        (warmup(a + b, steps=3), f"warmup({A} + {B}, steps=3)"),
    ],
)
def test_representations_have_the_brackets_they_need(s: Schedule, text: str) -> None:
    assert repr(s) == text
    assert evaluated(text) == s


def test_numbers_of_every_type_give_the_same_schedule() -> None:
    expected = linear(total=10, warmup=2, peak=0.25)
    for number in (np.float64(0.25), np.float32(0.25), Fraction(1, 4), np.array(0.25)):
        for ten in (np.int64(10), np.uint8(10)):
            made = linear(ten, warmup=np.int32(2), peak=number)  # type: ignore[arg-type]
            assert made == expected
            assert json.dumps(made.to_json()) == json.dumps(expected.to_json())
        assert number * expected == 0.25 * expected  # type: ignore[operator]
        assert expected * number == expected * 0.25  # type: ignore[operator]
        assert number + expected == 0.25 + expected  # type: ignore[operator]
        word = warmup(expected, steps=3, kind=np.str_("cosine"))  # type: ignore[arg-type]
        assert repr(word) == f"warmup({expected!r}, steps=3, kind='cosine')"
        assert repr(number * expected) == repr(0.25 * expected)  # type: ignore[operator]


def test_minus_zero_is_zero() -> None:
    for s in (linear(5, final=-0.0), constant(-0.0), piecewise_constant({1: -0.0})):
        assert s(5).hex() == restored(s)(5).hex() == "0x0.0p+0"


@pytest.mark.parametrize("s", EXAMPLES, ids=repr)
def test_a_schedule_is_immutable(s: Schedule) -> None:
    for field in dataclasses.fields(s):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(s, field.name, 1)


@pytest.mark.parametrize("s", EXAMPLES, ids=repr)
def test_a_schedule_depends_on_the_step_alone(s: Schedule) -> None:
    forwards = {step: s(step) for step in STEPS}
    for step in reversed(STEPS):
        assert s(step) == s(np.int64(step)) == forwards[step]
        assert type(s(np.uint64(step))) is float


@pytest.mark.parametrize("s", [*EXAMPLES, zero_based(abs)], ids=repr)
@pytest.mark.parametrize(
    ("step", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (np.int64(0), ValueError),
        (2**64, ValueError),
        (1.0, TypeError),
        (np.float64(1), TypeError),
        (True, TypeError),
        ("1", TypeError),
        (None, TypeError),
    ],
)
def test_a_step_must_be_a_whole_number_from_1(
    s: Schedule, step: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^step must be a whole number"):
        s(step)


def test_arithmetic_is_that_of_the_values() -> None:
    for step in STEPS:
        x, y = a(step), cosine(20)(step)
        assert (a * cosine(20))(step) == x * y
        assert (a + cosine(20))(step) == x + y
        assert (2 * a + 3)(step) == (3 + a * 2)(step) == 2 * x + 3
    assert sum([a, b])(1) == 2.0


@pytest.mark.parametrize("s", [cosine(total=10), 0.1 * cosine(total=10), zero_based(math.sqrt)])
def test_formatted_as_text_a_schedule_is_its_representation(s: Schedule) -> None:
    assert f"{s}" == f"{s!s}" == repr(s)
    assert f"{s:>40}" == repr(s).rjust(40)
    assert f"{s:.^40s}" == repr(s).center(40, ".")
    assert f"{s:4}" == repr(s)


@pytest.mark.parametrize("spec", [".4f", ".4", "g", "e", ".2%", ",", "+", "8.3f", "<8.3"])
def test_a_number_format_is_refused_with_advice(spec: str) -> None:
    params = np.ones(3)
    opt = thalweg.AdamW(params, lr=0.1 * cosine(total=10))
    with pytest.raises(TypeError, match=f"^a schedule cannot be formatted as '{re.escape(spec)}'"):
        format(opt.lr, spec)
    coming = opt.lr(opt.step_count + 1)
    assert format(opt.step(np.ones(3)).lr, spec) == format(coming, spec)


def test_then_counts_the_steps_of_the_second_from_1() -> None:
    joined = linear(10).then(cosine(20), at=5)
    assert [joined(step) for step in range(1, 5)] == [linear(10)(step) for step in range(1, 5)]
    assert [joined(step) for step in range(5, 30)] == [cosine(20)(step) for step in range(1, 26)]


@pytest.mark.parametrize("function", [abs, lambda step: step, float, thalweg.AdamW])
def test_functions_are_no_operands(function: Any) -> None:
    operations: list[Callable[[], Any]] = [
        lambda: a * function,
        lambda: function * a,
        lambda: a + function,
        lambda: function + a,
        lambda: a.then(function, at=5),
        lambda: warmup(function, steps=5),
    ]
    for operation in operations:
        with pytest.raises(TypeError, match=r"must be a schedule, got .*zero_based"):
            operation()


@pytest.mark.parametrize("other", ["2", None, True, [2.0], np.ones(3), 2j])
def test_other_objects_are_no_operands(other: Any) -> None:
    for operation in (lambda: a * other, lambda: other * a, lambda: a + other, lambda: other + a):
        with pytest.raises(TypeError):
            operation()


def test_operands_are_finite() -> None:
    for number in (math.nan, math.inf, 1e301, 10**400):
        with pytest.raises(ValueError, match=r"must be at least -1e\+300 and at most 1e\+300"):
            number * a


PLAIN = {"total": 10, "warmup": 2, "peak": 0.5, "final": 0.25}
FLOATS = {"peak": (), "final": ()}
SPAN = {"total": (1, 0, -1), "warmup": (10, 11, -1)}
OPTIONS: list[tuple[Any, dict[str, Any], dict[str, tuple[Any, ...]]]] = [
    # kind, valid options, and for each of them finite values of the right type that are invalid
    (constant, {"value": 1.0, "warmup": 1}, {"value": (), "warmup": (-1,)}),
    (linear, PLAIN, {**FLOATS, **SPAN}),
    (polynomial, {**PLAIN, "power": 2.0}, {**FLOATS, **SPAN, "power": (0, -1)}),
    (cosine, {**PLAIN, "exponent": 2.0}, {**FLOATS, **SPAN, "exponent": (0, -1)}),
    (
        exponential,
        {"rate": 0.5, "steps": 2, "warmup": 2, "peak": 0.5, "final": 0.25},
        {"rate": (0, -1), "steps": (0, -1), "warmup": (-1,), "peak": (), "final": (0.6,)},
    ),
    (exponential, {"rate": 1.5, "peak": 0.5, "final": 0.6}, {"final": (0.4,)}),
    (inverse_sqrt, {"warmup": 2, "peak": 0.5}, {"warmup": (-1,), "peak": ()}),
    (
        warmup_stable_decay,
        {**PLAIN, "decay": 8},
        {**FLOATS, **SPAN, "warmup": (3, 11, -1), "decay": (0, -1, 9)},
    ),
    (
        cosine_restarts,
        {"T_0": 2.5, "T_mult": 1, "warmup": 2, "peak": 0.5, "final": 0.25, "decay": 1.0},
        {**FLOATS, "T_0": (0, -1), "T_mult": (0, -1), "warmup": (-1,), "decay": (0, -0.5, 1.5)},
    ),
    (
        triangular,
        {"start": 0.1, "peak": 0.5, "up": 2, "down": 3, "decay": 0.5},
        {"start": (), "peak": (), "up": (0, -1), "down": (0, -1), "decay": (0, -0.5, 1.5)},
    ),
    (
        one_cycle,
        {"total": 10, "peak": 0.5, "pct_start": 0.3, "div": 25.0, "final_div": 100.0},
        {
            "total": (1, 0, 3),
            "peak": (),
            "pct_start": (0, 1, 0.05),
            "div": (0, -1),
            "final_div": (0, -1),
        },
    ),
    (
        one_cycle,
        {"total": 10, "pct_start": 0.5, "three_phase": True},
        {"total": (1, 2), "pct_start": (0.1, 0.55)},
    ),
    (
        schedule.one_cycle_momentum,
        {"total": 10, "low": 0.5, "high": 0.9, "pct_start": 0.3},
        {"total": (1,), "low": (), "high": (), "pct_start": (0, 1, 0.05)},
    ),
    (warmup, {"into": a, "steps": 3, "start": 0.5}, {"steps": (0, -1), "start": (-0.1, 1.1)}),
    (warmup, {"into": a, "steps": 3, "kind": "exponential", "start": 0.5}, {"start": (0,)}),
    (a.then, {"schedule": b, "at": 2}, {"at": (1, 0, -1)}),
]
NEVER = (math.nan, math.inf, -math.inf, 10**400)
WRONG_TYPE = ("1", True, [1], 1j)


def cases() -> list[Any]:
    found = []
    for kind, fine, wrong in OPTIONS:
        for name, values in wrong.items():
            refused = [(value, ValueError) for value in (*values, -1e301, 1e301, *NEVER)]
            if isinstance(fine[name], int):
                refused = [(value, ValueError) for value in values] + [(1.5, TypeError)]
            refused += [(value, TypeError) for value in WRONG_TYPE]
            found += [(kind, fine, name, value, error) for value, error in refused]
        words = {"shape": "cubic", "kind": "cubic"}
        flags = {"three_phase": 1, "staircase": "yes"}
        known = {field.name for field in dataclasses.fields(kind)} if isinstance(kind, type) else {}
        found += [(kind, fine, n, w, ValueError) for n, w in words.items() if n in known]
        found += [(kind, fine, n, w, TypeError) for n, w in flags.items() if n in known]
    return found


@pytest.mark.parametrize(("kind", "fine", "name", "value", "error"), cases())
def test_options_are_checked_when_a_schedule_is_made(
    kind: Any, fine: dict[str, Any], name: str, value: Any, error: type[Exception]
) -> None:
    kind(**fine)
    with pytest.raises(error, match=f"{name}|one_cycle") as told:
        kind(**{**fine, name: value})
    assert ", got " in str(told.value)


@pytest.mark.parametrize(
    ("points", "error"),
    [
        ({}, ValueError),
        ({2: 0.1}, ValueError),
        ({0: 0.1, 1: 0.2}, ValueError),
        ({1: math.nan}, ValueError),
        ({1: 0.1, 5: math.inf}, ValueError),
        ([(1, 0.1), (1, 0.2)], ValueError),
        ({1.5: 0.1}, TypeError),
        ({1: "0.1"}, TypeError),
        ({"1": 0.1}, TypeError),
        ([1, 2], TypeError),
        ([(1, 2, 3)], TypeError),
        (0.1, TypeError),
        (None, TypeError),
    ],
)
@pytest.mark.parametrize("kind", [piecewise_constant, piecewise_interpolated])
def test_points_are_steps_from_1_on_with_numbers(
    kind: Any, points: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"values|knots"):
        kind(points)


def test_points_come_in_any_order_and_form() -> None:
    for kind in (piecewise_constant, piecewise_interpolated):
        pairs = [(4, 0.2), (1, 0.1)]
        assert kind(dict(pairs)) == kind(pairs) == kind(iter(pairs)) == kind({1: 0.1, 4: 0.2})


def halve(epoch: int) -> float:
    return 0.5**epoch


def test_a_function_that_counts_from_0_is_adapted() -> None:
    s = zero_based(halve)
    assert [s(step) for step in (1, 2, 3)] == [1.0, 0.5, 0.25]
    assert [(2 * s + 1)(step) for step in (1, 2)] == [3.0, 2.0]
    assert s == pickle.loads(pickle.dumps(s)) == zero_based(halve) != zero_based(abs)  # noqa: S301
    assert repr(2 * s) == f"2.0 * zero_based({__name__}.halve)"
    for one in (s, 2 * s, warmup(s, steps=5), constant().then(a + s, at=5)):
        with pytest.raises(TypeError, match=r"zero_based\(.*halve\).*cannot be converted to JSON"):
            one.to_json()


def test_a_schedule_of_another_class_has_no_json() -> None:
    class steeper(linear):  # noqa: N801 - lower case like the schedules
        pass

    with pytest.raises(TypeError, match=r"steeper.*cannot be converted to JSON"):
        (2 * steeper(total=5)).to_json()


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        "cosine",
        [],
        {},
        {"total": 10},
        {"schedule": 3},
        {"schedule": None},
        {"schedule": ["cosine"]},
        {"schedule": "cosin", "total": 10},
        {"schedule": "_Pair", "left": 1.0, "right": 2.0},
        {"schedule": "Schedule"},
        {"schedule": "zero_based", "function": "abs"},
        {"schedule": "cosine"},
        {"schedule": "cosine", "total": 10, "extra": 1},
        {"schedule": "cosine", "total": 10, "_": 1},
        {"schedule": "cosine", "total": 10, 3: 1},
        {"schedule": "cosine", "total": 10.0},
        {"schedule": "cosine", "total": "10"},
        {"schedule": "cosine", "total": -1},
        {"schedule": "cosine", "total": None},
        {"schedule": "cosine", "total": [10]},
        {"schedule": "cosine", "total": {"schedule": "constant"}},
        {"schedule": "cosine", "total": 10, "peak": math.nan},
        {"schedule": "cosine", "total": 10, "warmup": 10},
        {"schedule": "piecewise_constant", "values": {"1": 0.1}},
        {"schedule": "piecewise_constant", "values": [[1]]},
        {"schedule": "piecewise_constant", "values": [[1, [0.1]]]},
        {"schedule": "product", "left": 1.0, "right": 2.0},
        {"schedule": "product", "left": {"schedule": "constant"}, "right": "2"},
        {"schedule": "product", "left": {"schedule": "constant"}, "right": {"total": 3}},
        {"schedule": "then", "first": 1.0, "second": {"schedule": "constant"}, "at": 5},
        {"schedule": "warmup", "into": 1.0, "steps": 5},
    ],
    ids=repr,
)
def test_json_that_is_no_schedule_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r".{20}"):
        from_json(value)


def test_importing_thalweg_does_not_import_matplotlib() -> None:
    program = "import sys, thalweg; print('matplotlib' in sys.modules, thalweg.schedule.linear(9))"
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "False linear(total=9)\n"

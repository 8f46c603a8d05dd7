"""Values of schedules: closed forms, ends, joins, bounds, and the exact bits."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules import EXAMPLES, KINDS, PINNED, STEPS, evaluated, numbers, shares, spans
from thalweg._core import half_cosine, power
from thalweg.schedule import (
    Schedule,
    constant,
    cosine,
    cosine_restarts,
    exponential,
    inverse_sqrt,
    linear,
    one_cycle,
    piecewise_constant,
    piecewise_interpolated,
    polynomial,
    triangular,
    warmup,
    warmup_stable_decay,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parent.parent / "docs" / "schedules.md"
FAR = 10**12


def half(x: float) -> float:
    return (1 + math.cos(math.pi * x)) / 2


CLOSED_FORMS: list[tuple[Schedule, Callable[[int], float]]] = [
    (constant(0.3, warmup=7), lambda t: 0.3 * min(1, t / 7)),
    (linear(41, warmup=5, peak=0.7, final=0.1), lambda t: 0.7 - 0.6 * (t - 5) / 36),
    (polynomial(41, 2.5, peak=2, final=0.1), lambda t: 0.1 + 1.9 * (1 - (t - 1) / 40) ** 2.5),
    (cosine(41, peak=0.7, final=0.1), lambda t: 0.1 + 0.6 * half((t - 1) / 40)),
    (cosine(41, warmup=5), lambda t: half((t - 5) / 36)),
    (cosine(41, exponent=1.5, final=-1), lambda t: -1 + 2 * half((t - 1) / 40) ** 1.5),
    (exponential(0.97, warmup=5, peak=2), lambda t: 2 * 0.97 ** (t - 5)),
    (exponential(0.5, steps=8), lambda t: 0.5 ** ((t - 1) / 8)),
    (exponential(1.1, steps=8, staircase=True), lambda t: 1.1 ** ((t - 1) // 8)),
    (exponential(0.9, final=0.3), lambda t: max(0.3, 0.9 ** (t - 1))),
    (exponential(1.1, final=3), lambda t: min(3, 1.1 ** (t - 1))),
    (inverse_sqrt(warmup=5, peak=0.2), lambda t: 0.2 * math.sqrt(5 / t)),
    (inverse_sqrt(), lambda t: 1 / math.sqrt(t)),
    (
        warmup_stable_decay(41, warmup=5, decay=20, final=0.2),
        lambda t: 1.0 if t <= 21 else 0.2 + 0.8 * (41 - t) / 20,
    ),
    (
        warmup_stable_decay(41, warmup=5, decay=20, shape="cosine"),
        lambda t: 1.0 if t <= 21 else half((t - 21) / 20),
    ),
    (
        warmup_stable_decay(41, warmup=5, decay=36, shape="sqrt"),
        lambda t: 1 - math.sqrt((t - 5) / 36),
    ),
    (cosine_restarts(8), lambda t: half((t - 1) % 8 / 8)),
    (cosine_restarts(2.5, warmup=5), lambda t: half((t - 5) % 2.5 / 2.5)),
    (
        cosine_restarts(8, decay=0.5, peak=2, final=1),
        lambda t: 1 + 0.5 ** ((t - 1) // 8) * half((t - 1) % 8 / 8),
    ),
    (
        cosine_restarts(2, T_mult=3),  # cycles begin at steps 1, 3, 9, 27
        lambda t: next(half((t - a) / n) for a, n in [(27, 54), (9, 18), (3, 6)] if t >= a),
    ),
    (triangular(1, 3, up=4), lambda t: 1 + 2 * (1 - abs((t - 1) % 8 - 4) / 4)),
    (
        triangular(1, 3, up=4, decay=0.5),
        lambda t: 1 + 2 * 0.5 ** ((t - 1) // 8) * (1 - abs((t - 1) % 8 - 4) / 4),
    ),
    (
        one_cycle(41, peak=2, pct_start=5 / 41),
        lambda t: 8e-6 + (2 - 8e-6) * half((t - 5) / 36),
    ),
    (piecewise_constant({1: 0.1, 9: 0.5}), lambda t: 0.1 if t < 9 else 0.5),
    (piecewise_interpolated({1: 0, 5: 1, 41: 4}), lambda t: 1 + 3 * (t - 5) / 36),
    (
        piecewise_interpolated({1: 0, 5: 1, 41: 4}, "cosine"),
        lambda t: 4 - 3 * half((t - 5) / 36),
    ),
    (2 * cosine(41) + 0.5, lambda t: 2 * half((t - 1) / 40) + 0.5),
    (cosine(9).then(linear(33), at=9), lambda t: (41 - t) / 32 if t >= 9 else half((t - 1) / 8)),
]


@pytest.mark.parametrize(("s", "form"), CLOSED_FORMS, ids=[repr(s) for s, _ in CLOSED_FORMS])
def test_schedules_equal_their_closed_forms(s: Schedule, form: Callable[[int], float]) -> None:
    for step in range(5, 42):
        assert s(step) == pytest.approx(form(step), rel=1e-13, abs=1e-15)


RAMPS: list[tuple[Schedule, Callable[[float], float]]] = [
    (warmup(constant(3), steps=8), lambda x: 3 * x),
    (warmup(constant(3), steps=8, start=0.5), lambda x: 1.5 + 1.5 * x),
    (warmup(constant(3), steps=8, kind="cosine", start=0.5), lambda x: 1.5 + 1.5 * half(1 - x)),
    (warmup(constant(3), steps=8, kind="exponential", start=0.1), lambda x: 3 * 0.1 ** (1 - x)),
    (warmup(constant(3), steps=8, kind="constant", start=0.1), lambda x: 0.3 if x < 1 else 3.0),
    *((kind, lambda x: x) for kind in (cosine(20, warmup=8), linear(20, warmup=8))),
    *((kind, lambda x: x) for kind in (inverse_sqrt(warmup=8), exponential(0.9, warmup=8))),
    *((kind, lambda x: x) for kind in (constant(warmup=8), cosine_restarts(5, warmup=8))),
    (polynomial(20, 2, warmup=8, peak=3, final=1), lambda x: 3 * x),
    (warmup_stable_decay(20, warmup=8, decay=4), lambda x: x),
]


@pytest.mark.parametrize(("s", "form"), RAMPS, ids=[repr(s) for s, _ in RAMPS])
def test_warmups_rise_from_step_0_to_the_peak(s: Schedule, form: Callable[[float], float]) -> None:
    for step in range(1, 9):
        assert s(step) == pytest.approx(form(step / 8), rel=1e-13)
    assert s(8) == form(1.0)


@given(
    st.sampled_from([cosine, linear]),
    st.integers(1, 40),
    st.integers(2, FAR),
    st.fixed_dictionaries({"peak": numbers, "final": numbers}),
    st.integers(1, 2 * FAR),
)
def test_function_warmup_equals_the_argument_warmup(
    kind: Any, steps: int, total: int, ends: dict[str, float], step: int
) -> None:
    within = kind(total=total + steps - 1, warmup=steps, **ends)
    front = warmup(kind(total=total, **ends), steps=steps)
    for t in (1, steps, steps + 1, step % total + 1, step, total + steps - 1):
        assert within(t).hex() == front(t).hex()


@given(
    st.one_of(
        spans(linear),
        spans(cosine, exponent=st.floats(0.1, 10)),
        spans(polynomial, power=st.floats(0.1, 10)),
    ),
    st.data(),
)
def test_ends_are_exact_and_bound_the_values_between(s: Any, data: st.DataObject) -> None:
    first = max(s.warmup, 1)
    assert s(first) == s.peak
    assert s(s.total) == s(s.total + 1) == s(10 * FAR) == s.final
    low, high = sorted((s.peak, s.final))
    assert low <= s(data.draw(st.integers(first, s.total))) <= high
    assert all(s(step) == s.peak * (step / s.warmup) for step in range(1, s.warmup + 1))


@given(
    st.integers(1, 1000),
    st.floats(-1e3, 1e3),
    st.floats(-1e3, 1e3),
    st.sampled_from(["linear", "cosine", "sqrt"]),
)
def test_pieces_are_monotone(length: int, peak: float, final: float, shape: Any) -> None:
    options = {"total": length + 1, "peak": peak, "final": final}
    pieces: list[Schedule] = [
        linear(**options),
        cosine(**options),
        polynomial(power=0.7, **options),
        warmup_stable_decay(warmup=0, decay=length, shape=shape, **options),
        piecewise_interpolated({1: peak, length + 1: final}, shape="cosine"),
    ]
    for s in pieces:
        fall = [s(step) for step in range(1, length + 3)]
        assert fall == sorted(fall, reverse=final < peak)


@given(st.integers(2, 10**6), shares, st.integers(1, 4), st.integers(1, FAR))
def test_restarts_stay_between_final_and_peak(
    length: int, decay: float, multiple: int, step: int
) -> None:
    s = cosine_restarts(length / 2, T_mult=multiple, decay=decay, peak=3.0, final=1.0)
    assert 1.0 <= s(step) <= 3.0


JOINS = [
    # a schedule whose pieces scale with n, and the multiples of n where two pieces meet
    (lambda n: cosine(2 * n, warmup=n), [1, 2]),
    (lambda n: linear(2 * n, warmup=n), [1, 2]),
    (lambda n: polynomial(2 * n, 2, warmup=n), [1, 2]),
    (lambda n: inverse_sqrt(warmup=n), [1]),
    (lambda n: exponential(0.5, steps=n, warmup=n, final=0.25), [1, 3]),
    (lambda n: warmup_stable_decay(4 * n, warmup=n, decay=n), [1, 3, 4]),
    (lambda n: warmup_stable_decay(4 * n, warmup=n, decay=n, shape="cosine"), [1, 3, 4]),
    (lambda n: triangular(0, 1, up=n, down=2 * n), [1, 3, 4]),
    (lambda n: one_cycle(10 * n), [3, 10]),
    (lambda n: one_cycle(10 * n, three_phase=True), [3, 6, 10]),
    (lambda n: one_cycle(10 * n, three_phase=True).momentum(), [3, 6, 10]),
    (lambda n: piecewise_interpolated({1: 0, n: 1, 3 * n: 0.5}), [1, 3]),
    (lambda n: warmup(cosine(2 * n), steps=n, kind="cosine"), [1, 3]),
    (lambda n: warmup(cosine(2 * n), steps=n, kind="exponential", start=0.1), [1, 3]),
]


@pytest.mark.parametrize(("make", "multiples"), JOINS)
def test_pieces_join_without_a_jump(make: Callable[[int], Schedule], multiples: list[int]) -> None:
    n = 10**6
    for multiple in multiples:
        around = [make(n)(multiple * n + i) for i in range(-3, 4)]
        assert max(abs(x - y) for x, y in pairwise(around)) < 4 / n


@pytest.mark.parametrize("step", [FAR, FAR + 12345, 10**15 + 1])
def test_far_steps_are_exact(step: int) -> None:
    for length in (3, 7, 10**6 + 3):
        position = (step - 1) % length
        assert cosine_restarts(length)(step) == cosine_restarts(length)(position + 1)
        assert triangular(0, 1, length)(step) == triangular(0, 1, length)(
            (step - 1) % (2 * length) + 1
        )
    eighths = (step - 1) * 8 % 19  # T_0 is 19 eighths of a step
    assert cosine_restarts(19 / 8)(step) == half_cosine(eighths / 19, (19 - eighths) / 19)
    start, length = 1, 5
    while start + length <= step:
        start, length = start + length, 2 * length
    assert cosine_restarts(5, T_mult=2)(step) == cosine(length + 1)(step - start + 1)
    assert linear(2 * step + 1)(step + 1) == cosine(2 * step + 1)(step + 1) == 0.5


def test_the_last_steps_of_a_cosine_keep_their_digits() -> None:
    for n in (10**3, 10**6, 10**9, 10**12):
        s = cosine(n + 1)
        assert s(n) == pytest.approx((math.pi / (2 * n)) ** 2, rel=1e-5 if n == 10**3 else 1e-11)
        assert s(n - 1) / s(n) == pytest.approx(4, rel=1e-5)


@given(numbers, numbers, st.integers(2, 60))
def test_steps_next_to_the_peak_do_not_exceed_it(peak: float, final: float, step: int) -> None:
    for total in (10**8, 10**9, 2**60):  # near the peak, the half cosine rounds to 1 or next to it
        for s in (cosine(total, peak=peak, final=final), linear(total, peak=peak, final=final)):
            assert min(peak, final) <= s(step) <= max(peak, final)


def test_the_first_update_has_the_peak_without_a_warmup() -> None:
    for none, one in [
        (cosine(20), cosine(20, warmup=1)),
        (linear(20), linear(20, warmup=1)),
        (polynomial(20, 2), polynomial(20, 2, warmup=1)),
        (exponential(0.9), exponential(0.9, warmup=1)),
        (inverse_sqrt(), inverse_sqrt(warmup=1)),
        (constant(), constant(warmup=1)),
        (cosine_restarts(5), cosine_restarts(5, warmup=1)),
        (
            warmup_stable_decay(20, warmup=0, decay=5),
            warmup_stable_decay(20, warmup=1, decay=5),
        ),
        (cosine(20), warmup(cosine(20), steps=1)),
    ]:
        assert [none(step) for step in STEPS] == [one(step) for step in STEPS]
        assert none(1) == 1.0


def test_the_shortest_schedules_have_their_ends() -> None:
    for s in (linear(2), cosine(2), polynomial(2, 3), warmup_stable_decay(2, warmup=0, decay=1)):
        assert [s(step) for step in (1, 2, 3)] == [1.0, 0.0, 0.0]
    for s in (linear(3, warmup=2), cosine(3, warmup=2), polynomial(3, 1, warmup=2)):
        assert [s(step) for step in (1, 2, 3)] == [0.5, 1.0, 0.0]
    assert [one_cycle(4, pct_start=0.25)(step) for step in (1, 4)] == [1.0, 1 / 25 / 1e4]
    assert [cosine_restarts(1)(step) for step in (1, 2, 3)] == [1.0] * 3
    assert [triangular(0, 1, 1)(step) for step in (1, 2, 3)] == [0.0, 1.0, 0.0]
    assert piecewise_constant({1: 0.5})(FAR) == piecewise_interpolated({1: 0.5})(1) == 0.5


def test_a_schedule_may_rise_to_its_final_value() -> None:
    assert [linear(5, peak=0.0, final=1.0)(step) for step in range(1, 7)] == [
        0,
        0.25,
        0.5,
        0.75,
        1,
        1,
    ]
    rise = [cosine(50, peak=-1, final=2)(step) for step in range(1, 60)]
    assert rise == sorted(rise)


def rows() -> list[list[str]]:
    table = PAGE.read_text(encoding="utf-8").partition("## Ends")[2].partition("\n## ")[0]
    return [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("| `")
    ]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_the_page_has_the_right_ends(row: list[str]) -> None:
    s = evaluated(row[0])
    for cell in row[1:]:
        for value, step in re.findall(r"(\S+) at (\d+)", cell):
            assert s(int(step)) == float(value)


def test_the_page_has_the_ends_of_every_schedule() -> None:
    shown = [row[0].partition("(")[0] for row in rows()]
    assert set(shown) >= KINDS - {"zero_based"}
    assert all(len(re.findall(r" at \d+", " ".join(row))) >= 3 for row in rows())


@pytest.mark.parametrize(("text", "values"), json.loads(PINNED.read_text("utf-8")).items())
def test_values_have_the_same_bits_on_every_machine(text: str, values: dict[str, str]) -> None:
    s = evaluated(text)
    assert {step: s(int(step)).hex() for step in values} == values


def test_every_example_has_pinned_values() -> None:
    assert list(json.loads(PINNED.read_text("utf-8"))) == [repr(s) for s in EXAMPLES]


def test_functions_of_the_core_are_accurate() -> None:
    for n in range(1001):
        assert half_cosine(n / 1000, (1000 - n) / 1000) == pytest.approx(half(n / 1000), abs=4e-16)
        assert power(n / 1000, 2.5) == pytest.approx((n / 1000) ** 2.5, rel=4e-16)

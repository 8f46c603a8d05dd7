"""Schedules for tests: an example of every kind, and strategies for arbitrary ones.

``python tests/schedules.py`` writes ``tests/data/schedules.json``, the exact values that
``test_schedule_values.py`` compares with.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from thalweg import schedule
from thalweg.schedule import (
    Schedule,
    constant,
    cosine,
    cosine_restarts,
    exponential,
    inverse_sqrt,
    linear,
    one_cycle,
    one_cycle_momentum,
    piecewise_constant,
    piecewise_interpolated,
    polynomial,
    triangular,
    warmup,
    warmup_stable_decay,
)

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES: list[Schedule] = [
    constant(),
    constant(0.3, warmup=7),
    linear(total=20),
    linear(total=24, warmup=5, peak=0.7, final=0.1),
    polynomial(total=20, power=2.5, warmup=3, final=0.01),
    polynomial(total=10**12, power=0.9, warmup=10**6),
    cosine(total=20),
    cosine(total=23, warmup=4, peak=0.3, final=0.01),
    cosine(total=10**12, warmup=10**9, exponent=1.5),
    exponential(0.97, warmup=5),
    exponential(0.5, steps=4, staircase=True, peak=0.9, final=0.01),
    inverse_sqrt(),
    inverse_sqrt(warmup=6, peak=0.2),
    warmup_stable_decay(total=24, warmup=4, decay=9),
    warmup_stable_decay(total=24, warmup=0, decay=9, shape="cosine", final=0.1),
    warmup_stable_decay(total=10**12, warmup=2000, decay=10**11, shape="sqrt"),
    cosine_restarts(7),
    cosine_restarts(4.6, warmup=3, decay=0.8, final=0.01),
    cosine_restarts(3, T_mult=2, peak=0.6),
    triangular(0.1, 0.9, up=4),
    triangular(0.9, 0.5, up=3, down=5, decay=0.7),
    one_cycle(total=20),
    one_cycle(total=24, shape="linear", three_phase=True, pct_start=0.35, div=10, final_div=5),
    one_cycle(total=20).momentum(),
    one_cycle(total=24, three_phase=True, shape="linear").momentum(low=0.5, high=0.9),
    piecewise_constant({1: 0.1, 4: 0.2, 11: 0.05}),
    piecewise_interpolated({1: 0.1, 9: 0.5, 17: 0.0}),
    piecewise_interpolated({1: 0.1, 9: 0.5, 17: 0.2}, shape="cosine"),
    warmup(cosine(total=20), steps=6),
    warmup(cosine(total=20), steps=6, kind="cosine", start=0.1),
    warmup(0.3 * inverse_sqrt(), steps=6, kind="exponential", start=0.01),
    warmup(linear(total=20), steps=6, kind="constant", start=0.5),
    3e-3 * cosine(total=20, warmup=3),
    0.5 * (cosine(total=20) + 0.1),
    linear(total=20) * cosine_restarts(5) + 0.01,
    linear(total=6, peak=0.1, final=1.0).then(cosine(total=15), at=7).then(constant(0.01), at=18),
    (0.5 * linear(total=6)).then(0.1 * constant(), at=7) * 0.3,
]
"""Every kind with every option; all values lie in [0, 1], so that they suit any hyperparameter."""

KINDS = {name for name in schedule.__all__ if name not in {"Schedule", "from_json", "plot"}}
STEPS = [*range(1, 26), 10**3, 10**6 + 1, 10**9 + 7, 10**12 - 1, 10**12]
PINNED = Path(__file__).parent / "data" / "schedules.json"

numbers = st.floats(-1e300, 1e300).map(lambda x: x + 0.0)
small = st.integers(0, 40)
shares = st.floats(0, 1, exclude_min=True)
positive = st.floats(1e-3, 1e3)
shapes = st.sampled_from(["linear", "cosine"])
points = st.dictionaries(st.integers(2, 10**12), numbers, max_size=4).flatmap(
    lambda later: numbers.map(lambda first: {1: first, **later})
)


def spans(make: Callable[..., Schedule], **options: st.SearchStrategy[Any]) -> Any:
    """Schedules with a warmup within their total, a peak and a final value."""
    common = {"peak": numbers, "final": numbers}
    return st.builds(
        lambda warmup, more, **rest: make(total=warmup + more, warmup=warmup, **rest),
        warmup=small,
        more=st.integers(2, 10**12),
        **common,
        **options,
    )


def _wsd(total: int, decay: int, **options: Any) -> Schedule:
    return warmup_stable_decay(total=total + decay, decay=decay, **options)


simple = st.one_of(
    st.builds(constant, numbers, small),
    spans(linear),
    spans(polynomial, power=positive),
    spans(cosine, exponent=positive),
    spans(_wsd, decay=st.integers(1, 99), shape=st.sampled_from(["linear", "cosine", "sqrt"])),
    st.builds(
        exponential,
        positive,
        steps=st.integers(1, 99),
        staircase=st.booleans(),
        warmup=small,
        peak=numbers,
    ),
    st.builds(inverse_sqrt, warmup=small, peak=numbers),
    st.builds(
        cosine_restarts,
        st.floats(0.5, 1e9) | st.integers(1, 10**9),
        T_mult=st.integers(1, 4),
        warmup=small,
        peak=numbers,
        final=numbers,
        decay=shares,
    ),
    st.builds(
        triangular, numbers, numbers, st.integers(1, 99), st.none() | st.integers(1, 99), shares
    ),
    st.builds(
        one_cycle,
        total=st.integers(10, 10**12),
        peak=st.floats(-1e200, 1e200),
        pct_start=st.floats(0.2, 0.45),
        div=positive,
        final_div=positive,
        shape=shapes,
        three_phase=st.booleans(),
    ),
    st.builds(
        one_cycle_momentum,
        total=st.integers(10, 10**12),
        low=numbers,
        high=numbers,
        pct_start=st.floats(0.2, 0.45),
        shape=shapes,
    ),
    st.builds(piecewise_constant, points),
    st.builds(piecewise_interpolated, points, shapes),
)
schedules = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds(lambda left, right: left * right, inner, inner | numbers),
        st.builds(lambda left, right: left * right, numbers, inner),
        st.builds(lambda left, right: left + right, inner, inner | numbers),
        st.builds(lambda left, right: left + right, numbers, inner),
        st.builds(lambda one, other, at: one.then(other, at=at), inner, inner, st.integers(2, 99)),
        st.builds(
            warmup,
            inner,
            steps=st.integers(1, 40),
            kind=st.sampled_from(["linear", "cosine", "exponential", "constant"]),
            start=shares,
        ),
    ),
    max_leaves=6,
)
"""Any schedule that can be written as JSON."""


def evaluated(text: str) -> Any:
    """The schedule that `text`, the repr of a schedule, evaluates to."""
    return eval(text, {name: getattr(schedule, name) for name in schedule.__all__})  # noqa: S307


if __name__ == "__main__":
    pinned = {repr(s): {str(step): s(step).hex() for step in STEPS} for s in EXAMPLES}
    PINNED.write_text(json.dumps(pinned, indent=1) + "\n", encoding="utf-8")

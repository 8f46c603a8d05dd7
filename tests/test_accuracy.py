"""Scalars lose no digits, tiny numbers count as zero, and huge gradients never give NaN."""

from __future__ import annotations

from contextlib import nullcontext
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import thalweg
from arrays import assert_same_bits
from formulas import FORMULAS, NEVER_NEGATIVE
from rules import Rule, every_rule
from thalweg import functional, reference

betas = st.floats(0.0, 1.0, exclude_max=True)
special_betas = st.sampled_from([0.0, 0.5, 0.9, 0.999, 1 - 2**-53])


@settings(max_examples=500, deadline=None)
@given(beta=betas | special_betas, step=st.integers(1, 1000) | st.integers(1, 10**12))
@example(beta=1 - 2**-53, step=986_004)
@example(beta=0.9999999999999959, step=301_149_968_273)
@example(beta=0.999994394839734, step=14_813)
def test_one_minus_power_loses_no_digits(beta: float, step: int) -> None:
    with localcontext() as context:
        context.prec = 60
        exact = 1 - Decimal(beta) ** step
        error = abs(Decimal(reference.one_minus_power(beta, step)) - exact) / exact
    assert error < (Decimal("1e-15") if beta <= 0.9999 else Decimal("1e-14"))


@every_rule
@pytest.mark.parametrize(
    ("dtype", "tiny", "tiny_square"),
    [
        (np.float32, 1e-40, 1e-40),  # subnormal
        (np.float32, 1.9e-31, 2.3e-35),
        (np.float64, 1e-310, 1e-310),
        (np.float64, 1.9e-292, 4.5e-305),
    ],
)
def test_tiny_gradients_and_state_count_as_zero(
    rule: Rule, dtype: type, tiny: float, tiny_square: float
) -> None:
    values = {"z": 0.0, **dict.fromkeys(NEVER_NEGATIVE, tiny_square)}  # `z` is no average
    p, *state = (np.full(20, values.get(key, tiny), dtype) for key in ("z", *rule.state))
    options = {**rule.typical, **({"eps_root": 0.0} if "eps_root" in rule.options else {})}
    assert rule.apply(p, np.full(20, tiny, dtype), state, 2, options)
    for x in (p, *state):
        assert not x.any()


@every_rule
@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
@pytest.mark.parametrize(
    ("dtype", "huge"),
    [
        (np.float32, np.inf),
        (np.float32, np.nan),
        (np.float32, 2e19),  # finite, but its square is not
        (np.float64, np.inf),
        (np.float64, np.nan),
        (np.float64, 1.4e154),
    ],
)
def test_no_gradient_makes_a_parameter_nan(
    rule: Rule, dtype: type, huge: float, nonfinite: str
) -> None:
    p, *state = np.zeros((1 + len(rule.state), 40), dtype)
    for gradient in (1.0, huge, 1.0):
        g = np.ones(40, dtype)
        g[33] = gradient
        squares = FORMULAS[rule.cls.__name__].limit < np.inf
        refused = not np.isfinite(gradient) or (squares and gradient == huge)
        before = [x.copy() for x in (p, *state)]
        raises = refused and nonfinite == "raise"
        with pytest.raises(thalweg.NonFiniteError) if raises else nullcontext():
            assert rule.apply(p, g, state, 2, rule.typical, nonfinite=nonfinite) != refused
        for x, old in zip((p, *state), before, strict=True):
            assert np.isfinite(x).all()
            if refused:
                assert_same_bits(x, old)


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0**20])
@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 2.0**64), (np.float64, 2.0**512)])
def test_adam_accepts_any_gradient_whose_square_is_finite(
    dtype: type, limit: float, scale: float
) -> None:
    p, m, v = np.zeros((3, 1), dtype)
    options = {"lr": 0.1, "betas": (0.9, 0.0), "scale": scale}
    g = np.array([limit / scale], dtype)
    with pytest.raises(thalweg.NonFiniteError):
        functional.adam(p, g, m, v, 1, **options)
    assert functional.adam(p, np.nextafter(g, dtype(0)), m, v, 1, **options)
    assert p == pytest.approx(-0.1)
    assert np.isfinite(v).all()

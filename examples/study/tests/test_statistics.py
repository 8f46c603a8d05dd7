"""Intervals cover what they should, and say so in one form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from thalweg_study.statistics import Interval, bootstrap, mean_interval


def test_a_mean_has_students_interval() -> None:
    sample = np.random.default_rng(0).standard_normal(12)
    found = mean_interval(sample)
    expected = stats.ttest_1samp(sample, 0).confidence_interval(0.95)
    assert found.estimate == pytest.approx(sample.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_intervals_that_hold_together_share_the_risk() -> None:
    sample = np.random.default_rng(0).standard_normal(12)
    found = mean_interval(sample, 10)
    expected = stats.ttest_1samp(sample, 0).confidence_interval(1 - 0.05 / 10)
    assert found.estimate == mean_interval(sample).estimate
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_single_value_decides_nothing() -> None:
    found = mean_interval([0.3])
    assert found == Interval(0.3, -np.inf, np.inf)
    assert not found.above(-1e9)
    assert not found.below(1e9)


def test_the_bootstrap_covers_a_known_mean_about_19_times_in_20() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        sample = generator.standard_normal(30)
        covered += bootstrap(lambda seeds, of=sample: of[seeds].mean(), 30).contains(0.0)
    assert 50 <= covered <= 60


def test_the_bootstrap_is_the_same_every_time_and_leaves_out_what_is_not_a_number() -> None:
    sample = np.arange(8.0)

    def mean_if_mixed(seeds: np.ndarray) -> float:
        return sample[seeds].mean() if np.ptp(seeds) > 3 else np.nan

    assert bootstrap(mean_if_mixed, 8) == bootstrap(mean_if_mixed, 8)
    assert np.isfinite(bootstrap(mean_if_mixed, 8).low)


def test_an_interval_reads_as_a_number_with_its_range() -> None:
    found = Interval(0.0123, 0.01, 0.02)
    assert f"{found.scaled(100):.1f}" == "1.2 (1.0 to 2.0)"
    assert found.above(0)
    assert found.below(0.03)
    assert found.within(0.01, 0.02)
    assert not found.within(0.011, 1)

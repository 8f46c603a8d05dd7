"""Counters of skipped steps: the total, and those since the last step that was taken."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD, BAD = np.ones(2), np.array([1.0, np.nan])


def run(opt: thalweg.Optimizer, word: str) -> list[tuple[int, int, int]]:
    seen = []
    for letter in word:
        opt.step(GOOD if letter == "g" else BAD)
        seen.append((opt.step_count, opt.skip_count, opt.consecutive_skips))
    return seen


def test_counters_count_skips_and_a_taken_step_resets_the_consecutive_ones() -> None:
    opt = thalweg.AdamW(np.ones(2), nonfinite="skip")
    assert (opt.skip_count, opt.consecutive_skips) == (0, 0)
    assert run(opt, "bbgbgg") == [(0, 1, 1), (0, 2, 2), (1, 2, 0), (1, 3, 1), (2, 3, 0), (3, 3, 0)]


@pytest.mark.parametrize("nonfinite", ["raise", "ignore"])
def test_nothing_is_skipped_under_another_policy(nonfinite: str) -> None:
    opt = thalweg.AdamW(np.ones(2), nonfinite=nonfinite)
    try:
        run(opt, "b")
    except thalweg.NonFiniteError:
        assert nonfinite == "raise"
    assert (opt.skip_count, opt.consecutive_skips) == (0, 0)


def test_a_refused_step_does_not_count_as_skipped() -> None:
    opt = thalweg.AdamW(np.ones(2), nonfinite="skip")
    run(opt, "b")
    with pytest.raises(ValueError, match="shape"):
        opt.step(np.ones(3))
    assert (opt.skip_count, opt.consecutive_skips) == (1, 1)


def loaded(opt: thalweg.Optimizer) -> thalweg.Optimizer:
    other = thalweg.AdamW(np.ones(2), nonfinite="skip")
    other.load_state_dict(opt.state_dict())
    return other


COPIES: dict[str, Callable[[Any], Any]] = {
    "loaded": loaded,
    "pickled": lambda opt: pickle.loads(pickle.dumps(opt)),  # noqa: S301 - our own bytes
    "copied": copy.deepcopy,
}


@pytest.mark.parametrize("transport", COPIES.values(), ids=COPIES)
def test_counters_are_saved_with_the_optimizer(transport: Callable[[Any], Any]) -> None:
    opt = thalweg.AdamW(np.ones(2), nonfinite="skip")
    run(opt, "bgbb")
    other = transport(opt)
    assert (other.step_count, other.skip_count, other.consecutive_skips) == (1, 3, 2)
    assert run(other, "bgb") == run(opt, "bgb")


def test_only_a_reset_of_everything_resets_the_counters() -> None:
    opt = thalweg.AdamW({"w": np.ones(2)}, nonfinite="skip")
    opt.step({"w": BAD})
    opt.reset("w")
    assert (opt.skip_count, opt.consecutive_skips) == (1, 1)
    opt.reset()
    assert (opt.skip_count, opt.consecutive_skips) == (0, 0)


@pytest.mark.parametrize("skips", [None, {}, {"total": 1}, {"total": -1, "consecutive": 0}, 3])
def test_damaged_counters_are_refused(skips: Any) -> None:
    opt = thalweg.AdamW(np.ones(2), nonfinite="skip")
    run(opt, "bb")
    with pytest.raises(ValueError, match="missing or malformed: skips"):
        opt.load_state_dict({**opt.state_dict(), "skips": skips})
    assert (opt.skip_count, opt.consecutive_skips) == (2, 2)


def test_counters_are_read_only() -> None:
    opt = thalweg.AdamW(np.ones(2))
    for key in ("skip_count", "consecutive_skips"):
        with pytest.raises(AttributeError):
            setattr(opt, key, 0)

"""A sharded optimizer has the bits of one process, for any number of ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg.mpi
from fleet import Training, gradients, model
from ranks import results_of
from rules import every_rule
from thalweg.mpi.layout import Layout
from thalweg.mpi.shares import BLOCK, cut
from thalweg.tree import flatten

if TYPE_CHECKING:
    from ranks import Thread
    from rules import Rule

RANKS = (1, 2, 3, 4, 5)
SCHEDULED: dict[str, Any] = {
    "lr": 0.02 * thalweg.schedule.cosine(6),
    "groups": [{"match": "*.b", "weight_decay": 0.0}, {"match": "across", "lr_scale": 0.5}],
}


@every_rule
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_every_rule(rule: Rule, ranks: int) -> None:
    options = rule.arguments({"groups": [{"match": "*.b", "lr_scale": 2.0}]})
    Training(rule.cls, options, how={"max_norm": 0.5, "scale": 1 / 7}).check(ranks)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("leaves", range(1, 14))
def test_every_number_of_leaves(ranks: int, leaves: int) -> None:
    Training(thalweg.AdamW, SCHEDULED, leaves, {"max_norm": 0.5}).check(ranks, steps=2)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize(
    "how",
    [{}, {"max_tensor_norm": 0.1}, {"max_value": 0.3}, {"stats": True, "max_norm": 1.0}],
    ids=repr,
)
@pytest.mark.parametrize("nonfinite", ["raise", "ignore"])
def test_arguments_of_a_step(ranks: int, how: dict[str, Any], nonfinite: str) -> None:
    Training(thalweg.AdamW, {**SCHEDULED, "nonfinite": nonfinite}, how=how).check(ranks)


FULL = {"match": "double", "state": "full"}


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize(
    "options",
    [
        {"state": "compact", "groups": [FULL]},
        {"state": "bfloat16", "groups": [FULL]},
        {"groups": [{"match": "last", "state": "compact"}]},
        {"cautious": True, "update_rms": 0.5},
        {"amsgrad": True, "maximize": True},
        {"weight_decay": 0.1, "independent": True},
    ],
    ids=repr,
)
def test_options_and_formats_of_state(ranks: int, options: dict[str, Any]) -> None:
    Training(thalweg.AdamW, options).check(ranks)


def narrow(seed: int) -> dict[str, Any]:
    half = {name: np.asarray(a, np.float16) for name, a in flatten(model(seed)).items()}
    return {name: half[name] for name in ("layer.w", "empty", "across", "last")}


def narrow_gradients(params: dict[str, Any], leaf: int, step: int) -> dict[str, Any]:
    drawn = gradients(model(), leaf, step)
    return {name: drawn[name] for name in params}


def bits(seed: int) -> dict[str, Any]:
    """The bits of bfloat16 numbers."""
    wide = {name: np.asarray(a, np.float32) for name, a in flatten(model(seed)).items()}
    return {n: (wide[n].view(np.uint32) >> 16).astype(np.uint16) for n in ("layer.w", "last")}


@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize("state", ["full", "compact"])
def test_narrow_parameters(ranks: int, state: str) -> None:
    options = {"state": state, "lr": 0.5}
    Training(thalweg.AdamW, options, model=narrow, gradients=narrow_gradients).check(ranks)
    options |= {"bfloat16": "*"}
    Training(thalweg.AdamW, options, model=bits, gradients=narrow_gradients).check(ranks)


def test_overflow_of_half_precision_is_told_on_every_rank() -> None:
    def large(seed: int) -> dict[str, Any]:
        return {"a": np.full(9, 6e4, np.float16), "b": np.full(9, seed, np.float16)}

    def away(params: dict[str, Any], leaf: int, step: int) -> dict[str, Any]:
        return {"a": np.full(9, -1.0, np.float32), "b": np.ones(9, np.float32)}

    training = Training(thalweg.SGD, {"lr": 1e4}, 2, model=large, gradients=away)
    params, opt = training.alone()
    assert "overflowed=('a',)" in training.run(params, opt, 0, 1)[0]
    training.check(2, steps=1)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_norm_of_gradients_whose_squares_leave_the_range(ranks: int, size: float) -> None:
    def scaled(params: dict[str, Any], leaf: int, step: int) -> dict[str, Any]:
        return {name: np.full(a.shape, size * (leaf + 1)) for name, a in params.items()}

    def doubles(seed: int) -> dict[str, Any]:
        return {"a": np.full(3 * BLOCK, float(seed)), "b": np.full(7, float(seed))}

    options = {"lr": 0.1, "momentum": 0.9}
    how = {"max_norm": 1e-3, "stats": True}
    Training(thalweg.SGD, options, 3, how, doubles, scaled).check(ranks)


@pytest.mark.parametrize("ranks", RANKS)
def test_one_bad_leaf_skips_the_step_everywhere(ranks: int) -> None:
    def bad(params: dict[str, Any], leaf: int, step: int) -> dict[str, Any]:
        grads = gradients(params, leaf, step)
        if (leaf, step) == (3, 1):
            grads["double"][39, 999] = np.nan
            grads["last"][5] = np.inf
        return grads

    training = Training(thalweg.AdamW, {"nonfinite": "skip"}, gradients=bad)
    params, opt = training.alone()
    assert "skipped=True" in training.run(params, opt, 0, 2)[1]
    training.check(ranks)


@pytest.mark.parametrize("ranks", RANKS)
def test_groups_schedules_and_averages_change_in_a_run(ranks: int) -> None:
    def between(opt: Any, step: int) -> None:
        if step == 0:
            averages[id(opt)] = thalweg.EMA(opt, decay=0.5)
        else:
            averages[id(opt)].update()
        if step == 1:
            opt.groups[1].frozen = True
        if step == 2:
            opt.groups[1].frozen = False
            opt.groups[2].lr_scale = 3.0
            opt.reset("last")

    averages: dict[int, Any] = {}
    options = {
        "lr": 0.02 * thalweg.schedule.cosine(6),
        "groups": [{"match": "double"}, {"match": "last"}, {"match": "across", "frozen": True}],
    }
    Training(thalweg.AdamW, options, between=between).check(ranks, steps=4)


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_one_leaf_a_rank_is_passed_as_a_tree(ranks: int) -> None:
    training = Training(thalweg.AdamW, {"lr": 0.1}, ranks)
    params, opt = training.alone()
    training.run(params, opt, 0, 2)

    def program(rank: Thread) -> Any:
        own = training.model(rank.rank)
        sharded = thalweg.mpi.sharded(thalweg.AdamW, own, rank, lr=0.1)
        for step in range(2):
            grads = gradients(own, rank.rank, step)
            before = {name: None if g is None else g.copy() for name, g in grads.items()}
            # The second time in arrays that cannot be sent as they are.
            sharded.step(grads if step == 0 else {n: across(g) for n, g in grads.items()})
            for name, g in grads.items():
                assert g is None or g.tobytes() == before[name].tobytes()
        return flatten(own)

    for own in results_of(ranks, program):
        for name, array in flatten(params).items():
            assert own[name].tobytes() == array.tobytes(), name


def across(array: Any) -> Any:
    """The same numbers in other places of memory."""
    return None if array is None else np.repeat(array[..., None], 2, -1)[..., 0]


def test_a_leaf_without_any_gradient() -> None:
    def some(params: dict[str, Any], leaf: int, step: int) -> dict[str, Any]:
        drawn = gradients(params, leaf, step)
        return dict.fromkeys(drawn) if leaf in (0, 2, 3) else drawn

    for ranks in RANKS:
        Training(thalweg.AdamW, {}, gradients=some).check(ranks)


def test_more_ranks_than_elements() -> None:
    def tiny(seed: int) -> dict[str, Any]:
        return {"a": np.full((), float(seed), np.float32), "b": np.full(2, float(seed))}

    for leaves in (1, 2, 5):
        Training(thalweg.AdamW, {}, leaves, {"max_norm": 0.1}, tiny, ones).check(5)


def ones(params: dict[str, Any], leaf: int, step: int) -> dict[str, Any]:
    return {name: np.full(a.shape, 1.0 + leaf + step) for name, a in params.items()}


def test_subnormal_gradients_and_negative_zeros_have_the_bits_of_one_process() -> None:
    def small(params: dict[str, Any], leaf: int, step: int) -> dict[str, Any]:
        return {"a": np.array([-0.0, 1e-45, -1e-40, 3e-38, 1e-30], np.float32) * (leaf + 1)}

    def five(seed: int) -> dict[str, Any]:
        return {"a": np.full(5, float(seed), np.float32)}

    for ranks in RANKS:
        Training(thalweg.SGD, {"lr": 1e30}, ranks, model=five, gradients=small).check(ranks)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3 * BLOCK), min_size=1, max_size=6),
    whole=st.sets(st.integers(0, 5)),
    ranks=st.integers(1, 9),
)
def test_shares(sizes: list[int], whole: set[int], ranks: int) -> None:
    named = {str(i): size for i, size in enumerate(sizes)}
    undivided = [str(i) for i in whole if i < len(sizes)]
    bounds = cut(named, undivided, ranks)
    line = [0] * ranks
    for name, size in named.items():
        ends = bounds[name]
        assert len(ends) == ranks + 1
        assert (ends[0], ends[-1]) == (0, size)
        assert list(ends) == sorted(ends)
        inner = [end for end in ends if 0 < end < size]
        assert all(end % BLOCK == 0 and size - end >= BLOCK for end in inner)
        assert not (inner and name in undivided)
        for rank in range(ranks):
            line[rank] += ends[rank + 1] - ends[rank]
    # Shares are in order, and near the mean as far as blocks and whole parameters allow it.
    owners = [r for ends in bounds.values() for r in range(ranks) if ends[r] < ends[r + 1]]
    assert owners == sorted(owners)
    largest = max([2 * BLOCK, *(named[name] for name in undivided)])
    assert max(line) <= sum(sizes) / ranks + largest


def test_messages_are_few_and_memory_is_that_of_the_shares() -> None:
    sent: dict[int, int] = {}

    def program(rank: Thread) -> Any:
        params = {"w": np.zeros((1 << 20,), np.float32)}
        opt = thalweg.mpi.sharded(thalweg.AdamW, params, rank)
        rank.sent = 0
        opt.step({"w": np.ones(1 << 20, np.float32)})
        sent[rank.rank] = rank.sent
        state = sum(a.nbytes for k, a in opt.state["w"].items() if k != "step")
        return state, rank.calls

    for state, calls in results_of(4, program):
        assert state == 8 * (1 << 20) // 4
        assert calls < 60
    # The traffic of a ring: each rank sends its part of all shares, and its share to all.
    assert set(sent.values()) == {2 * 4 * (1 << 20) * 3 // 4}


@settings(max_examples=100, deadline=None)
@given(
    shares=st.lists(st.integers(0, 500_000), max_size=8),
    chunk=st.sampled_from([64, 1 << 14, 1 << 16, 1 << 20]),
)
def test_messages(shares: list[int], chunk: int) -> None:
    """Every byte of every share is in one message, and in one place of the line."""
    bounds = [(0, share) for share in shares]
    layout = Layout(bounds, chunk)
    messages = layout.messages[0] if shares else []
    line = np.zeros(layout.size(0), np.int64)
    seen = dict.fromkeys(range(len(shares)), 0)
    for message in messages:
        assert message.size <= chunk
        for part in message.slices:
            assert part.start == seen[part.array]
            assert part.at % 64 == 0
            seen[part.array] = part.stop
            line[message.start + part.at : message.start + part.end] += 1
    assert list(seen.values()) == shares
    assert line.max(initial=0) <= 1
    assert {a: stop - start for a, (start, stop) in layout.places(0).items()} == {
        array: share for array, share in enumerate(shares) if share
    }

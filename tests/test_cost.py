"""Work is linear in the size of the model; it is counted, not timed."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from thalweg import convert

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

SMALL = 60
"""Tensors, and groups, of the smaller model; the larger has twice as many."""


def work(action: Callable[[], object]) -> int:
    """Number of Python instructions that an action executes."""
    count = 0

    def trace(frame: FrameType, _event: str, _argument: object) -> Any:
        nonlocal count
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


class CountingName(str):
    """A name that counts its comparisons."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        CountingName.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def tree(n: int) -> dict[str, Any]:
    return {f"block{i}": {"w": np.ones(2, np.float32)} for i in range(n)}


def groups(n: int) -> list[dict[str, Any]]:
    """A group for each tensor, matched by name, glob and list in turn."""
    return [
        {"match": [f"block{i}.w", f"block{i}.*", [f"block{i}.w"]][i % 3], "lr_scale": 1 - i / 1e4}
        for i in range(n)
    ]


def made(n: int) -> thalweg.Optimizer:
    opt = thalweg.AdamW(tree(n), groups=groups(n))
    opt.step(tree(n))
    return opt


def construct(n: int, _: Path) -> Callable[[], object]:
    params, given = tree(n), groups(n)
    return lambda: thalweg.AdamW(params, groups=given)


def construct_by_globs_that_begin_with_a_wildcard(n: int, _: Path) -> Callable[[], object]:
    params, given = tree(n), [{"match": f"*k{i}.w", "lr_scale": 0.5} for i in range(n)]
    return lambda: thalweg.AdamW(params, groups=given)


def ready_groups(n: int, _: Path) -> Callable[[], object]:
    params = tree(n)
    ready = [thalweg.no_decay(), thalweg.layerwise_lr("block{}.*", 0.9)]
    return lambda: thalweg.AdamW(params, groups=ready)


def look_up_state(n: int, _: Path) -> Callable[[], object]:
    opt = made(n)
    return lambda: [opt.state[name]["exp_avg"] for name in opt.params]


def go_through_state(n: int, _: Path) -> Callable[[], object]:
    opt = made(n)
    return lambda: [dict(leaf) for leaf in opt.state.values()]


def resolve_each(n: int, _: Path) -> Callable[[], object]:
    opt = made(n)
    return lambda: [opt.resolve(name) for name in opt.params]


def reset_each(n: int, _: Path) -> Callable[[], object]:
    opt = made(n)
    return lambda: [opt.reset(name) for name in opt.params]


def edit_each_group(n: int, _: Path) -> Callable[[], object]:
    opt = made(n)

    def action() -> None:
        for group in opt.groups[1:]:
            group.lr = 0.5

    return action


def edit_all(n: int, _: Path) -> Callable[[], object]:
    opt = made(n)
    return lambda: setattr(opt, "lr", 0.5)


def freeze_with_an_average(n: int, _: Path) -> Callable[[], object]:
    opt = made(n)
    thalweg.EMA(opt, 0.9)
    return lambda: setattr(opt.groups[1], "frozen", True)


def extend(n: int, _: Path) -> Callable[[], object]:
    opt = made(n)
    params = {**opt._held.tree, "last": np.ones(2, np.float32)}
    return lambda: opt.extend(params, groups=[{"match": "last", "lr": 0.5}])


def load_state_dict(n: int, _: Path) -> Callable[[], object]:
    opt = made(n)
    saved = opt.state_dict()
    return lambda: opt.load_state_dict(saved)


@pytest.mark.filterwarnings("ignore:loading changes hyperparameters")
def load_into_another(n: int, _: Path) -> Callable[[], object]:
    saved, other = made(n).state_dict(), thalweg.AdamW(tree(n))
    return lambda: other.load_state_dict(saved)


def save(n: int, path: Path) -> Callable[[], object]:
    opt = made(n)
    return lambda: opt.save(path)


def load(n: int, path: Path) -> Callable[[], object]:
    opt = made(n)
    opt.save(path)
    return lambda: opt.load(path)


def save_lists(n: int, path: Path) -> Callable[[], object]:
    opt, extra = (
        made(1),
        {"log": [0.5 * i for i in range(10 * n)], "names": dict.fromkeys(range(n), "")},
    )
    return lambda: opt.save(path, extra=extra)


def copies(n: int, _: Path) -> Callable[[], object]:
    opt = made(n)
    return lambda: (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt)))  # noqa: S301 - our own


def averages_and_sums(n: int, _: Path) -> Callable[[], object]:
    opt = made(n)

    def action() -> None:
        ema, sums = thalweg.EMA(opt, 0.9), thalweg.Accumulator(opt)
        sums.add(dict.fromkeys(opt.params, np.ones(2, np.float32)))
        ema.update()
        opt.load_state_dict(opt.state_dict())

    return action


def through_torch(n: int, _: Path) -> Callable[[], object]:
    opt = made(n)
    return lambda: convert.from_torch(convert.to_torch(opt), opt)


def through_optax(n: int, _: Path) -> Callable[[], object]:
    opt = thalweg.AdamW(tree(n))
    return lambda: convert.from_optax(convert.to_optax(opt), opt)


def files(n: int, path: Path) -> Callable[[], object]:
    def action() -> None:
        params = thalweg.map_params(path, tree(n))
        opt = thalweg.AdamW(params, groups=groups(n), state_dir=path)
        opt.step(tree(n))
        with thalweg.EMA(params, 0.5).swapped():
            pass
        opt.close()

    return action


ACTIONS = [
    construct,
    construct_by_globs_that_begin_with_a_wildcard,
    ready_groups,
    look_up_state,
    go_through_state,
    resolve_each,
    reset_each,
    edit_each_group,
    edit_all,
    freeze_with_an_average,
    extend,
    load_state_dict,
    load_into_another,
    save,
    load,
    save_lists,
    copies,
    averages_and_sums,
    through_torch,
    through_optax,
    files,
]


@pytest.mark.filterwarnings("ignore:loading changes hyperparameters")
@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
def test_work_is_linear_in_tensors_and_groups(
    action: Callable[[int, Path], Callable[[], object]], tmp_path: Path
) -> None:
    few, many = (work(action(n, tmp_path / str(n))) for n in (SMALL, 2 * SMALL))
    assert many < 2.2 * few


@pytest.mark.filterwarnings("ignore:loading changes hyperparameters")
def test_comparisons_of_names_in_a_state_dict_are_linear() -> None:
    compared = []
    for n in (SMALL, 2 * SMALL):
        saved = made(n).state_dict()
        for group in saved["groups"]:
            group["match"] = [CountingName(name) for name in group["match"]]
        saved["state"] = {CountingName(name): leaf for name, leaf in saved["state"].items()}
        other = thalweg.AdamW(tree(n))
        CountingName.compared = 0
        other.load_state_dict(saved)
        compared.append(CountingName.compared)
    few, many = compared
    assert many < 2.2 * few

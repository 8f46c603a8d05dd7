"""The history of learning rates of schedule-free parameters, and blocks with their averages.

The rule itself is in the tables that other tests share. Those make all state of the shape of the
parameter and give it to the function as it is; a history is neither, and only this rule has an
averaged point.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from arrays import assert_same_bits, machine, place
from thalweg import EMA, ScheduleFreeAdamW, functional, reference, schedule

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Opt = ScheduleFreeAdamW


def rising(step: int) -> float:
    return 1.0 - 0.6 / step


OPTIONS: dict[str, Any] = {
    "lr": schedule.constant(0.1, warmup=4),
    "betas": (rising, 0.99),
    "weight_decay": 0.1,
    "r": 0.5,
}
BACK = {"betas": (0.9, 0.99)}


def parameters() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "w": rng.standard_normal((5, 7)).astype(np.float32).T,
        "b": rng.standard_normal(9)[::2],
        "ice": np.ones(3),
        "new": np.ones(2, np.float32),
    }


def gradients(step: int) -> dict[str, Any]:
    rng = np.random.default_rng(step)
    return {
        "w": rng.standard_normal((7, 5)).astype(np.float32),
        "b": None if step in (2, 5) else rng.standard_normal(5),
        "ice": rng.standard_normal(3),
        "new": None,
    }


def made(params: Any = None, **options: Any) -> Opt:
    groups = [{"match": "b", "betas": (0.6, 0.9), "lr_scale": 0.5}]
    params = parameters() if params is None else params
    return ScheduleFreeAdamW(params, groups=groups, **{**OPTIONS, **options})


def trained(steps: int = 6, **options: Any) -> Opt:
    """A run in which `b` lacks two gradients, and `new` all."""
    opt = made(**options)
    for step in range(1, steps + 1):
        opt.step(gradients(step))
    return opt


def bits(opt: Opt) -> dict[str, Any]:
    found: dict[str, Any] = {"counts": (opt.step_count, opt.skip_count)}
    for name, array in opt.params.items():
        found[name] = array.tobytes()
        for key, value in opt.state.get(name, {}).items():
            found[f"{name}/{key}"] = value if key == "step" else value.tobytes()
    return found


def points(opt: Opt) -> dict[str, Any]:
    """The averaged points, by the reference."""
    found = {}
    for name, p in opt.params.items():
        state = opt.state[name]
        beta1 = float(state["history"][2])
        found[name] = reference.averaged_point(p, state["z"], beta1) if state["step"] else p.copy()
    return found


def test_each_parameter_has_its_own_history() -> None:
    opt = trained()
    rates = [OPTIONS["lr"](step) for step in range(1, 7)]
    weights = [number**0.5 * rate**2 for number, rate in enumerate(rates, start=1)]
    expected = [max(rates), sum(weights), rising(6)]
    np.testing.assert_allclose(opt.state["w"]["history"], expected, rtol=1e-15)
    own = [0.5 * rates[step - 1] for step in (1, 3, 4, 6)]
    weights = [number**0.5 * rate**2 for number, rate in enumerate(own, start=1)]
    expected = [max(own), sum(weights), 0.6]
    np.testing.assert_allclose(opt.state["b"]["history"], expected, rtol=1e-15)
    assert not opt.state["new"]["history"].any()


def test_the_average_is_the_weighted_mean_of_the_points_also_if_beta_changes() -> None:
    w = np.zeros(3)
    opt = ScheduleFreeAdamW({"w": w}, **{**OPTIONS, "r": 2.0})
    seen, weights = [], []
    for step in range(1, 30):
        opt.step({"w": np.random.default_rng(step).standard_normal(3)})
        seen.append(opt.state["w"]["z"].copy())
        weights.append(step**2 * OPTIONS["lr"](min(step, 4)) ** 2)
        with opt.averaged():
            np.testing.assert_allclose(w, np.average(seen, 0, weights), rtol=1e-12, atol=1e-14)


def test_a_rate_of_zero_has_no_weight() -> None:
    w = np.ones(3)
    opt = ScheduleFreeAdamW(w, lr=lambda step: 0.0 if step < 3 else 0.1, weight_decay=0.0)
    for step in range(1, 4):
        assert_same_bits(w, np.ones(3))
        opt.step(np.full(3, 0.5))
        assert opt.state["0"]["history"][1] == (0.0 if step < 3 else 0.1**2)
    with opt.averaged():
        assert_same_bits(w, opt.state["0"]["z"])


def pickled(opt: Opt, _: Path) -> Opt:
    again: Opt = pickle.loads(pickle.dumps(opt))  # noqa: S301 - our own bytes
    return again


def deeply_copied(opt: Opt, _: Path) -> Opt:
    return copy.deepcopy(opt)


def stated(opt: Opt, _: Path) -> Opt:
    params = {name: p.copy() for name, p in opt.params.items()}
    groups = [{"match": g.names, "state": g.state} for g in opt.groups[1:]]
    state = getattr(opt.groups[0], "state", "full")
    other = ScheduleFreeAdamW(params, **{**OPTIONS, "state": state, **BACK}, groups=groups)
    other.load_state_dict(opt.state_dict())
    return other


def loaded(opt: Opt, path: Path) -> Opt:
    opt.save(path / "run")
    other = stated(opt, path)
    other.reset()
    other.load(path / "run")
    return other


@pytest.mark.parametrize("again", [deeply_copied, pickled, stated, loaded])
@pytest.mark.parametrize("state", ["full", "bfloat16"])
def test_a_run_continues_with_its_history(again: Any, state: str, tmp_path: Path) -> None:
    options = {"state": state, "groups": [{"match": ["b", "ice"], "state": "full"}], **BACK}
    opt = ScheduleFreeAdamW(parameters(), **{**OPTIONS, **options})
    for step in range(1, 5):
        opt.step(gradients(step))
    other = again(opt, tmp_path)
    assert bits(other) == bits(opt)
    for step in range(5, 8):
        opt.step(gradients(step))
        other.step(gradients(step))
        assert bits(other) == bits(opt)


def test_state_of_another_format_is_converted_with_its_history() -> None:
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.0}
    opt = ScheduleFreeAdamW({"w": np.ones(5000, np.float32)}, **options)
    for step in range(1, 4):
        opt.step({"w": np.random.default_rng(step).standard_normal(5000)})
    for state in ("bfloat16", "compact"):
        other = ScheduleFreeAdamW({"w": opt.params["w"].copy()}, **options, state=state)
        with pytest.raises(ValueError, match=f"saved 'full', here '{state}'"):
            other.load_state_dict(opt.state_dict())
        other.load_state_dict(opt.state_dict(), convert=True)
        for key in ("z", "history"):
            assert_same_bits(other.state["w"][key], opt.state["w"][key])
        assert set(thalweg.compact.decode(other, "w")) == {"param", "z", "exp_avg_sq"}


def test_a_directory_keeps_the_history(tmp_path: Path) -> None:
    memory = trained()
    for steps in ((1, 2, 3), (4,), (5, 6)):
        opt = made(thalweg.map_params(tmp_path, parameters()), state_dir=tmp_path)
        for step in steps:
            opt.step(gradients(step))
            before = bits(opt)
            with opt.averaged() as averaged:
                assert (averaged["w"].tobytes() != before["w"]) == (opt.step_count > 1)
            assert bits(opt) == before
        opt.close()
    assert bits(opt) == bits(memory)


def test_a_directory_left_inside_a_block_is_torn(tmp_path: Path) -> None:
    opt = made(thalweg.map_params(tmp_path, parameters()), state_dir=tmp_path)
    opt.step(gradients(1))
    block = opt.averaged()
    block.__enter__()
    progress = (tmp_path / "progress").read_bytes()
    block.__exit__(None, None, None)
    opt.close()
    (tmp_path / "progress").write_bytes(progress)
    with pytest.raises(ValueError, match="was interrupted"):
        made(thalweg.map_params(tmp_path, parameters()), state_dir=tmp_path)


def test_a_step_that_is_skipped_or_refused_leaves_the_history() -> None:
    opt = trained(nonfinite="skip")
    before = bits(opt)
    bad = {**gradients(7), "w": np.full((7, 5), np.nan, np.float32)}
    assert opt.step(bad).skipped
    assert bits(opt) == {**before, "counts": (6, 1)}
    with pytest.raises(ValueError, match="shape"):
        opt.step({**gradients(7), "new": np.ones(3)})
    assert bits(opt) == {**before, "counts": (6, 1)}


@pytest.mark.parametrize(
    "limit", [{}, {"max_norm": 0.5}, {"max_tensor_norm": 0.5}, {"stats": True, "scale": 0.5}]
)
def test_parameters_of_one_class_with_other_histories_have_their_own_coefficients(
    limit: dict[str, Any],
) -> None:
    names = [str(i) for i in range(40)]  # more than the keys that are searched one by one
    together = {name: np.ones(3) for name in names}
    opt = ScheduleFreeAdamW(together, **OPTIONS)
    for step in range(1, 6):
        grads: dict[str, Any] = {name: np.arange(3) - float(name) % 7 for name in names}
        if step < 3:
            grads = {n: None if int(n) % (step + 1) else g for n, g in grads.items()}
        clips = dict.fromkeys(names, 1.0)
        given = {name: g for name, g in grads.items() if g is not None}
        scale = limit.get("scale", 1.0)
        expected = {}
        for name, g in given.items():
            if "max_norm" in limit:
                clips[name] = reference.clip_factor(given, 0.5, scale)
            elif "max_tensor_norm" in limit:
                clips[name] = reference.clip_factor({name: g}, 0.5, scale)
            state = opt.state[name]
            expected[name] = reference.schedule_free_adamw(
                together[name],
                g,
                state["z"],
                state["exp_avg_sq"],
                state["step"] + 1,
                history=state["history"],
                scale=scale * clips[name],
                **{**OPTIONS, "lr": OPTIONS["lr"](step), "betas": (rising(step), 0.99)},
            )
        opt.step(grads, **limit)
        for name, arrays in expected.items():
            state = opt.state[name]
            found = [together[name], state["z"], state["exp_avg_sq"], state["history"]]
            for got, array in zip(found, arrays, strict=True):
                assert_same_bits(got, array)


def test_reset_begins_again() -> None:
    opt = made()
    for step in range(1, 4):
        opt.step(gradients(step))
    opt.reset()
    params = {name: p.copy() for name, p in opt.params.items()}
    other = made(params)
    for step in range(1, 4):
        opt.step(gradients(step))
        other.step(gradients(step))
    assert bits(opt) == bits(other)


@pytest.mark.parametrize(
    "history", [[np.nan, 1.0, 0.9], [0.1, -1.0, 0.9], [0.1, np.inf, 0.9], [0.1, 1.0, 0.0]]
)
def test_a_history_that_no_step_left_is_refused(history: list[float]) -> None:
    opt = trained()
    opt.state["w"]["history"][:] = history
    before = bits(opt)
    with pytest.raises(ValueError, match="state of 'w': history must be what the last step left"):
        opt.step(gradients(7))
    assert bits(opt) == before


def test_functions_keep_the_history_of_each_parameter() -> None:
    dtypes = [np.float32, np.float64, np.float32]
    p = [np.ones(n + 2, dtype) for n, dtype in enumerate(dtypes)]
    z, v = ([np.zeros_like(x) for x in p] for _ in range(2))
    history = [np.zeros(3) for _ in p]
    expected = [[x.copy() for x in row] for row in zip(p, z, v, history, strict=True)]
    for step in range(1, 6):
        lr = 0.1 / step
        g = [np.full(len(x), 0.5 / step) for x in p]
        functional.schedule_free_adamw(p, g, z, v, step, history=history, lr=lr)
        for i, (q, z_, v_, h) in enumerate(expected):
            expected[i] = list(
                reference.schedule_free_adamw(
                    q, g[i], z_, v_, step, history=h, lr=lr, weight_decay=1e-2
                )
            )
    for got, row in zip(zip(p, z, v, history, strict=True), expected, strict=True):
        for x, y in zip(got, row, strict=True):
            assert_same_bits(x, y)
    before = [h.copy() for h in history]
    bad = [np.full(len(x), np.nan) for x in p]
    assert not functional.schedule_free_adamw(
        p, bad, z, v, 6, history=history, lr=0.1, nonfinite="skip"
    )
    for h, kept in zip(history, before, strict=True):
        assert_same_bits(h, kept)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["contiguous", "Fortran", "sliced"])
def test_threads_exchange_large_parameters_and_give_every_bit_back(dtype: str, layout: str) -> None:
    rng = np.random.default_rng(0)
    _, w = place(rng.standard_normal((503, 499)).astype(dtype), layout)
    opt = ScheduleFreeAdamW({"w": w}, lr=0.1)
    for _ in range(3):
        opt.step({"w": rng.standard_normal(w.shape)})
    y, x = w.copy(), points(opt)["w"]
    for level in thalweg.cpu_levels():
        for threads in (1, 2, 3):
            with machine(level, threads), opt.averaged() as tree:
                assert tree["w"] is w
                assert_same_bits(w, x)
            assert_same_bits(w, y)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_parameters_are_exchanged_with_all_their_digits(dtype: str) -> None:
    rng = np.random.default_rng(0)
    split = getattr(thalweg.compact, f"split_{dtype}")
    live, _ = split(rng.standard_normal(5000).astype(np.float32))
    options = {"bfloat16": "w"} if dtype == "bfloat16" else {}
    opt = ScheduleFreeAdamW({"w": live}, lr=0.1, state="compact", **options)
    for _ in range(3):
        opt.step({"w": rng.standard_normal(5000).astype(np.float32)})
    before, state = bits(opt), thalweg.compact.decode(opt, "w")
    beta1 = opt.state["w"]["history"][2]
    x, low = split(reference.averaged_point(state["param"], state["z"], beta1))
    with opt.averaged():
        assert live.tobytes() == x.tobytes()
        assert opt.state["w"]["low"].tobytes() == low.tobytes()
    assert bits(opt) == before


def test_the_block_holds_the_averages_of_parameters_that_train() -> None:
    opt = made()
    with opt.averaged():  # before the first step, it changes nothing
        assert bits(opt) == bits(made())
    for step in range(1, 4):
        opt.step(gradients(step))
    opt.groups[1].frozen = True
    before, expected = bits(opt), points(opt)
    expected["b"] = opt.params["b"].copy()
    with opt.averaged() as tree:
        for name, x in expected.items():
            assert_same_bits(tree[name], x)
        assert tree["w"].tobytes() != before["w"]
    assert bits(opt) == before


def test_an_exception_and_writes_in_the_block_leave_no_trace() -> None:
    opt = trained()
    before = bits(opt)
    with contextlib.suppress(ZeroDivisionError), opt.averaged() as tree:
        tree["w"][...] = np.nan
        tree["b"][...] = 1 // 0
    assert bits(opt) == before


def test_a_block_that_is_dropped_gives_the_parameters_back() -> None:
    opt = trained()
    before = bits(opt)
    block = opt.averaged()
    block.__enter__()
    assert bits(opt) != before
    del block
    gc.collect()
    assert bits(opt) == before
    opt.step(gradients(7))


def test_leaving_can_be_repeated_after_a_refusal() -> None:
    opt = trained()
    before = bits(opt)
    block = opt.averaged()
    block.__enter__()
    opt.params["ice"].setflags(write=False)
    with pytest.raises(ValueError, match=r"parameter 'ice' .*read-only"):
        block.__exit__(None, None, None)
    opt.params["ice"].setflags(write=True)
    block.__exit__(None, None, None)
    block.__exit__(None, None, None)
    assert bits(opt) == before


def test_a_parameter_that_changed_is_refused_before_the_block() -> None:
    opt = trained()
    before = bits(opt)
    opt.params["ice"].setflags(write=False)
    with pytest.raises(ValueError, match="read-only"), opt.averaged():
        pytest.fail("entered")
    opt.params["ice"].setflags(write=True)
    opt._held.tree["b"] = np.ones(5)
    with pytest.raises(ValueError, match="'b'"), opt.averaged():
        pytest.fail("entered")
    assert bits(opt) == before


def test_training_saving_and_editing_are_refused_inside() -> None:
    opt = trained()
    ema = EMA(opt, 0.9)
    saved, before = opt.state_dict(), bits(opt)
    refused: list[Callable[[], Any]] = [
        lambda: opt.step(gradients(7)),
        opt.open_step().__enter__,
        opt.averaged().__enter__,
        ema.update,
        ema.swapped().__enter__,
        opt.state_dict,
        lambda: opt.load_state_dict(saved),
        lambda: pickle.dumps(opt),
        lambda: copy.deepcopy(opt),
        lambda: setattr(opt, "lr", 0.3),
        lambda: setattr(opt.groups[0], "frozen", True),
        opt.reset,
        lambda: opt.rebind(opt._held.tree),
        lambda: opt.extend({**opt._held.tree, "more": np.ones(2)}),
        lambda: thalweg.Accumulator(opt),
    ]
    for act in refused:
        with opt.averaged():
            inside = bits(opt)
            with pytest.raises(thalweg.BusyError, match=r"opt\.averaged\(\)"):
                act()
            assert bits(opt) == inside
        assert bits(opt) == before
    opt.step(gradients(7))
    ema.update()


@pytest.mark.parametrize(
    "block", [lambda opt: opt.open_step(), lambda opt: EMA(opt, 0.9).swapped()]
)
def test_a_block_is_refused_inside_others(block: Any) -> None:
    opt = trained()
    with block(opt), pytest.raises(thalweg.BusyError), opt.averaged():
        pytest.fail("entered")

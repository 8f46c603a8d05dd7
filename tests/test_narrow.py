"""Optimizers with smaller state and narrow parameters: steps, saving, loading, conversion."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from arrays import assert_same_bits
from thalweg import SGDW, Accumulator, AdamW, Lion, compact, convert, reference

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ml_dtypes = pytest.importorskip("ml_dtypes")

SHAPE = (80, 70)
"""A parameter that is large enough for compact state, and no multiple of a block."""
FORMATS = ["full", "bfloat16", "compact"]
KINDS = ["float32", "float16", "bfloat16", "bits"]
NARROW = [kind for kind in KINDS if kind != "float32"]
RNG = np.random.default_rng(5)
START = {"w": RNG.standard_normal(SHAPE, np.float32), "b": RNG.standard_normal(70, np.float32)}


def as_kind(x: Any, kind: str) -> Any:
    match kind:
        case "float32":
            return x.copy()
        case "bits":
            return compact.encode_bfloat16(x)
        case "bfloat16":
            return x.astype(ml_dtypes.bfloat16)
        case _:
            return x.astype(kind)


def made(kind: str, state: Any = "full", **options: Any) -> AdamW:
    params = {name: as_kind(x, kind) for name, x in START.items()}
    declared: Any = "*" if kind == "bits" else ()
    return AdamW(params, lr=1e-3, state=state, bfloat16=declared, **options)


def gradients(step: int, kind: str = "float32") -> dict[str, Any]:
    rng = np.random.default_rng(step)
    grads = {name: rng.standard_normal(x.shape, np.float32) for name, x in START.items()}
    return {name: as_kind(g, kind) for name, g in grads.items()}


def trained(opt: AdamW, steps: int = 3, kind: str = "float32") -> AdamW:
    for step in range(opt.step_count, opt.step_count + steps):
        opt.step(gradients(step, kind))
    return opt


def assert_same(one: Any, other: Any) -> None:
    """The same parameters and state, bit for bit."""
    for name, param in one.params.items():
        assert param.tobytes() == other.params[name].tobytes(), name
        assert {k: np.asarray(v).tobytes() for k, v in one.state[name].items()} == {
            k: np.asarray(v).tobytes() for k, v in other.state[name].items()
        }, name


@pytest.mark.parametrize("state", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_that_of_the_reference_on_decoded_numbers(kind: str, state: str) -> None:
    opt = made(kind, state)
    for step in range(1, 4):
        before = {name: compact.decode(opt, name) for name in START}
        grads = gradients(step, kind)
        opt.step(grads, max_norm=50.0, stats=step == 2)
        for name, old in before.items():
            g = grads[name]
            g = compact.decode_bfloat16(g) if kind == "bits" else g.astype(np.float32)
            clip = reference.clip_factor(
                {n: compact.decode_bfloat16(x) if kind == "bits" else x for n, x in grads.items()},
                50.0,
            )
            p, m, v = reference.adam(
                *(old["param"], g, old["exp_avg"], old["exp_avg_sq"]),
                step,
                lr=1e-3,
                weight_decay=1e-2,
                scale=clip,
            )
            leaf = opt.state[name]
            small = name == "b" and state == "compact"
            if state == "full" or small:
                assert_same_bits(leaf["exp_avg"], m)
                assert_same_bits(leaf["exp_avg_sq"], v)
            else:
                assert np.array_equal(leaf["exp_avg"], compact.encode_bfloat16(m, step))
                if state == "bfloat16":
                    assert np.array_equal(leaf["exp_avg_sq"], compact.encode_bfloat16(v, step))
                else:
                    codes, bases = compact.encode_e5m3(v, step)
                    assert np.array_equal(leaf["exp_avg_sq"], codes)
                    assert np.array_equal(leaf["exp_avg_sq_base"], bases)
            found = compact.decode(opt, name)["param"]
            if kind == "float16":
                p = compact.join_float16(*compact.split_float16(p))
            assert_same_bits(found, p)


@pytest.mark.parametrize(("saved", "here"), [("float16", "bfloat16"), ("bits", "float16")])
def test_low_of_another_type_is_loaded_only_with_its_parameter(
    saved: str, here: str, tmp_path: Path
) -> None:
    source, target = trained(made(saved)), made(here)
    before = target.state_dict()
    path = tmp_path / "run.safetensors"
    source.save(path)
    for load in (
        lambda: target.load_state_dict(source.state_dict()),
        lambda: target.load(path, params=False),
    ):
        with pytest.raises(ValueError, match="type of 'w', which its low depends on: saved"):
            load()
        assert repr(target.state_dict()) == repr(before)
    target.load_state_dict(source.state_dict(), convert=True)
    assert target.step_count == source.step_count
    assert not target.state["w"]["low"].any()
    target.load(path, convert=True)
    exact = compact.decode(source, "w")["param"]
    assert np.abs(compact.decode(target, "w")["param"] - exact).max() < 1e-11
    same = made("bfloat16" if saved == "bits" else saved)
    same.load_state_dict(source.state_dict())
    assert_same_bits(compact.decode(same, "w")["exp_avg"], compact.decode(source, "w")["exp_avg"])


def test_state_has_the_promised_size() -> None:
    n = 64 * 1000
    sizes = {}
    for state in FORMATS:
        opt = AdamW({"w": np.zeros(n, np.float32)}, state=state)
        sizes[state] = sum(a.nbytes for k, a in opt.state["w"].items() if k != "step") / n
        assert f"{int(sizes[state] * n):,} bytes of state" in repr(opt)
    assert sizes == {"full": 8.0, "bfloat16": 4.0, "compact": 3.015625}
    opt = AdamW({"w": np.zeros(n, ml_dtypes.bfloat16)}, state="compact")
    assert sum(a.nbytes for k, a in opt.state["w"].items() if k != "step") / n == 5.015625


def test_a_bfloat16_parameter_moves_by_less_than_its_last_place() -> None:
    for kind in NARROW:
        opt = AdamW(
            {"w": as_kind(np.ones(3, np.float32), kind)},
            lr=1e-5,
            weight_decay=0.0,
            bfloat16="*" if kind == "bits" else (),
        )
        for _ in range(1000):
            opt.step({"w": np.ones(3, np.float32)})
        np.testing.assert_allclose(compact.decode(opt, "w")["param"], 0.99, rtol=1e-4)
        if kind != "float16":
            live = compact.join_bfloat16(opt.params["w"], np.zeros(3, np.int16))
            np.testing.assert_allclose(live, 0.99, rtol=2**-8)


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("threads", [1, 2])
def test_memory_order_and_threads_do_not_change_a_bit(layout: Any, threads: int) -> None:
    before = thalweg.get_num_threads()
    try:
        thalweg.set_num_threads(threads)
        w = np.asarray(as_kind(np.tile(START["w"], (8, 8)), "bfloat16"), order=layout)
        opt = AdamW({"w": w}, lr=1e-3, state="compact")
        one = AdamW({"w": np.array(w, order="C")}, lr=1e-3, state="compact")
        for step in range(3):
            g = np.tile(gradients(step)["w"], (8, 8))
            opt.step({"w": g})
            one.step({"w": np.asfortranarray(g)})
    finally:
        thalweg.set_num_threads(before)
    assert np.array_equal(w.view(np.uint16), one.params["w"].view(np.uint16))
    for key in ("exp_avg", "exp_avg_sq", "exp_avg_sq_base", "low"):
        assert np.array_equal(opt.state["w"][key], one.state["w"][key])


COPIES: dict[str, Callable[[AdamW, Path, Callable[[], AdamW]], AdamW]] = {}


def copies(copied: Callable[[AdamW, Path, Callable[[], AdamW]], AdamW]) -> None:
    COPIES[copied.__name__] = copied


@copies
def pickled(opt: AdamW, _: Path, __: Callable[[], AdamW]) -> AdamW:
    return pickle.loads(pickle.dumps(opt))  # noqa: S301 - our own bytes


@copies
def deep_copied(opt: AdamW, _: Path, __: Callable[[], AdamW]) -> AdamW:
    return copy.deepcopy(opt)


@copies
def saved(opt: AdamW, folder: Path, make: Callable[[], AdamW]) -> AdamW:
    opt.save(folder / "run.safetensors")
    again = make()
    again.load(folder / "run.safetensors")
    return again


@copies
def state_dict(opt: AdamW, _: Path, make: Callable[[], AdamW]) -> AdamW:
    again = make()
    for name, param in opt.params.items():
        again.params[name][...] = param
    again.load_state_dict(opt.state_dict())
    return again


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("state", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_continues_with_the_same_bits(
    kind: str, state: str, way: str, tmp_path: Path
) -> None:
    opt = trained(made(kind, state))
    again = COPIES[way](opt, tmp_path, lambda: made(kind, state))
    assert_same(trained(again), trained(opt))
    assert repr(again) == repr(opt)


def test_files_of_full_state_have_format_1_and_others_2(tmp_path: Path) -> None:
    for state, number in zip(FORMATS, (1, 2, 2), strict=True):
        opt = trained(made("float32", state))
        assert opt.state_dict()["format"] == number
        opt.save(tmp_path / "run")
        assert thalweg.read_checkpoint(tmp_path / "run").state_dict["format"] == number


def test_any_reader_finds_the_model_in_a_checkpoint(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    opt = trained(made("bfloat16", "compact"))
    opt.save(tmp_path / "run")
    with safetensors.safe_open(tmp_path / "run", "np") as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    assert kinds["params/w"] == kinds["state/w/exp_avg"] == "BF16"
    assert kinds["state/w/exp_avg_sq"] == kinds["state/w/exp_avg_sq_base"] == "U8"
    assert kinds["state/w/low"] == "I16"
    read = thalweg.read_checkpoint(tmp_path / "run")
    assert read.params is not None
    assert read.params["w"].tobytes() == opt.params["w"].tobytes()


@pytest.mark.parametrize("here", FORMATS)
@pytest.mark.parametrize("there", FORMATS)
def test_another_format_is_loaded_only_on_request(there: str, here: str, tmp_path: Path) -> None:
    opt = trained(made("float32", there))
    opt.save(tmp_path / "run")
    other = made("float32", here)
    if there != here:
        with pytest.raises(ValueError, match=f"saved '{there}', here '{here}'; pass convert"):
            other.load(tmp_path / "run")
        with pytest.raises(ValueError, match=f"saved '{there}', here '{here}'; pass convert"):
            other.load_state_dict(opt.state_dict())
        assert other.step_count == 0
    other.load(tmp_path / "run", convert=True)
    again = made("float32", here)
    again.load_state_dict(opt.state_dict(), convert=True)
    assert repr(made("float32", here)).partition(";")[0] == repr(other).partition(";")[0]
    for name in START:
        ours, theirs = (compact.decode(o, name) for o in (other, opt))
        np.testing.assert_allclose(ours["exp_avg"], theirs["exp_avg"], rtol=2**-8)
        np.testing.assert_allclose(ours["exp_avg_sq"], theirs["exp_avg_sq"], rtol=1 / 15)
        if here == "full":
            assert_same_bits(ours["exp_avg_sq"], theirs["exp_avg_sq"])
        for key in ("exp_avg", "exp_avg_sq"):
            assert_same_bits(compact.decode(again, name)[key], ours[key])
    trained(other)


def test_a_parameter_without_dimensions_is_converted(tmp_path: Path) -> None:
    full, small = (
        AdamW({"w": as_kind(np.array(0.1, np.float32), kind)}, state=state)
        for kind, state in (("float32", "full"), ("bfloat16", "bfloat16"))
    )
    full.step({"w": np.array(1.0, np.float32)})
    full.save(tmp_path / "run")
    small.load(tmp_path / "run", convert=True)
    one, other = (compact.decode(opt, "w") for opt in (full, small))
    assert_same_bits(one["param"], other["param"])
    assert np.array_equal(small.state["w"]["exp_avg"], compact.encode_bfloat16(one["exp_avg"]))


@pytest.mark.parametrize("here", KINDS)
@pytest.mark.parametrize("there", KINDS)
def test_parameters_of_another_type_are_loaded_on_request(
    there: str, here: str, tmp_path: Path
) -> None:
    opt = trained(made(there, "compact"), 20)
    opt.save(tmp_path / "run")
    other = made(here, "compact")
    other.load(tmp_path / "run", convert=True)
    for name in START:
        one, same = (compact.decode(o, name)["param"] for o in (opt, other))
        if here == "float16":
            same[np.abs(same) < 2**-16] = one[np.abs(same) < 2**-16]
        assert_same_bits(same, one)
    trained(other)
    if {there, here} & {"float32", "float16"} and there != here:
        with pytest.raises(ValueError, match="here"):
            made(here, "compact").load(tmp_path / "run")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", FORMATS)
def test_state_moves_to_torch_and_back(state: str, kind: str) -> None:
    pytest.importorskip("torch")
    opt = trained(made(kind, state))
    again = made(kind, state)
    convert.from_torch(convert.to_torch(opt), again)
    for name in START:
        for key, array in compact.decode(opt, name).items():
            if key != "param":
                assert_same_bits(compact.decode(again, name)[key], array)


@pytest.mark.parametrize("kind", NARROW)
def test_averages_and_sums_have_every_digit(kind: str) -> None:
    opt = made(kind, "compact")
    ema, acc = thalweg.EMA(opt, 0.5), Accumulator(opt)
    expected = {name: compact.decode(opt, name)["param"] for name in START}
    assert all(ema.params[name].dtype == np.float32 for name in START)
    for step in range(1, 5):
        grads = gradients(step, kind)
        acc.clear()
        acc.add(grads)
        opt.step(acc.grads)
        ema.update()
        for name in START:
            param = compact.decode(opt, name)["param"]
            expected[name] = reference.average(
                expected[name], param, step, 0.5, bias_correction=False
            )
            assert_same_bits(ema.params[name], expected[name])
    live = {name: compact.decode(opt, name)["param"] for name in START}
    with ema.swapped():
        for name in START:
            assert_same_bits(ema.params[name], live[name])
            held = compact.decode(opt, name)["param"]
            np.testing.assert_allclose(held, expected[name], atol=2**-40, rtol=0)
    for name in START:
        assert_same_bits(compact.decode(opt, name)["param"], live[name])
    again = made(kind, "compact")
    other = thalweg.EMA(again, 0.5)
    Accumulator(again)
    again.load_state_dict(opt.state_dict())
    assert_same_bits(other.params["w"], ema.params["w"])


def test_groups_choose_formats_and_keep_them() -> None:
    opt = made("float32", "compact", groups=[{"match": "w", "state": "bfloat16"}])
    assert opt.state["w"]["exp_avg_sq"].dtype == np.uint16
    assert (opt.resolve("w")["state"], opt.resolve("b")["state"]) == ("bfloat16", "compact")
    with pytest.raises(ValueError, match="state of 'w' must stay 'bfloat16', got 'full'"):
        opt.groups[1].state = "full"
    assert opt.groups[1].state == "bfloat16"
    frozen = made("float32", groups=[{"match": "w", "frozen": True}])
    frozen.groups[1].state = "compact"
    frozen.groups[1].frozen = False
    assert frozen.state["w"]["exp_avg_sq"].dtype == np.uint8
    trained(frozen)


def test_parameters_may_be_added_frozen_and_replaced() -> None:
    opt = made("bits", "compact")
    trained(opt, kind="bits")
    opt.groups[0].frozen = True
    opt.groups[0].frozen = False
    ema, acc = thalweg.EMA(opt, 0.5), Accumulator(opt)
    params = dict(opt.params)
    params["new"] = as_kind(START["w"], "bits")
    opt.extend(params)
    assert opt.state["new"]["low"].dtype == np.int16
    assert_same_bits(ema.params["new"], compact.decode_bfloat16(params["new"]))
    acc.add({name: np.zeros_like(array) for name, array in params.items()})
    ema.update()
    low = opt.state["w"]["low"]
    assert low.any()
    opt.rebind({name: array if name != "w" else array.copy() for name, array in params.items()})
    assert opt.state["w"]["low"] is low
    assert not low.any()
    assert opt.state["b"]["low"].any()
    opt.reset()
    assert not any(a.any() for leaf in opt.state.values() for k, a in leaf.items() if k != "step")


def test_open_steps_take_narrow_parameters() -> None:
    one, other = made("bfloat16", "compact"), made("bfloat16", "compact")
    grads = gradients(0)
    one.step(grads)
    with other.open_step() as step:
        for name, g in grads.items():
            step({name: g})
    assert_same(one, other)


def test_narrow_state_in_files_continues(tmp_path: Path) -> None:
    def opened(state: Any) -> AdamW:
        like = {name: x.astype(np.float16) for name, x in START.items()}
        params = thalweg.map_params(tmp_path, like)
        return AdamW(params, lr=1e-3, state=state, state_dir=tmp_path)

    opt = opened("compact")
    trained(opt)
    opt.close()
    again = opened("compact")
    memory = made("float16", "compact")
    assert_same(trained(again), trained(memory, 6))
    again.close()
    with pytest.raises(ValueError, match="must be float32"):
        opened("full")


def test_momentum_in_bfloat16() -> None:
    opt = SGDW({"w": START["w"].copy()}, lr=0.1, momentum=0.9, state="bfloat16")
    b, p = np.zeros(SHAPE, np.float32), START["w"]
    for step in range(1, 4):
        g = gradients(step)["w"]
        opt.step({"w": g})
        p, b = reference.sgd(p, g, b, step, lr=0.1, momentum=0.9, weight_decay=1e-2)
        bits = compact.encode_bfloat16(b, step)
        assert np.array_equal(opt.state["w"]["momentum_buffer"], bits)
        b = compact.decode_bfloat16(bits)
        assert_same_bits(opt.params["w"], p)


def test_lion_in_bfloat16() -> None:
    opt = Lion({"w": START["w"].copy()}, lr=0.1, state="bfloat16")
    m, p = np.zeros(SHAPE, np.float32), START["w"]
    for step in range(1, 4):
        g = gradients(step)["w"]
        opt.step({"w": g})
        p, m = reference.lion(p, g, m, lr=0.1, weight_decay=1e-2)
        bits = compact.encode_bfloat16(m, step)
        assert np.array_equal(opt.state["w"]["exp_avg"], bits)
        m = compact.decode_bfloat16(bits)
        assert_same_bits(opt.params["w"], p)


def test_a_step_out_of_the_range_of_float16_is_reported() -> None:
    opt = AdamW({"w": np.full(3, 65000, np.float16), "b": np.ones(3, np.float16)}, lr=600.0)
    report = opt.step({"w": -np.ones(3), "b": np.ones(3)})
    assert report.overflowed == ("w",)
    assert np.isinf(opt.params["w"]).all()
    assert "overflowed=('w',)" in repr(report)
    assert pickle.loads(pickle.dumps(report)) == report  # noqa: S301 - our own bytes
    assert opt.step({"w": np.ones(3), "b": np.ones(3)}).overflowed == ()


def test_a_nan_spoils_its_block_and_no_other() -> None:
    opt = AdamW({"w": np.ones(8192, np.float32)}, lr=0.1, state="compact", nonfinite="ignore")
    g = np.ones(8192, np.float32)
    g[100] = np.nan
    opt.step({"w": g})
    found = compact.decode(opt, "w")
    assert np.isnan(found["exp_avg_sq"]).nonzero()[0].tolist() == [100]
    assert (found["exp_avg_sq"][64:128] > 1e20).sum() == 63
    assert (found["exp_avg_sq"][:64] < 1).all()
    opt.step({"w": np.ones(8192, np.float32)})
    assert np.isfinite(opt.params["w"]).sum() == 8191

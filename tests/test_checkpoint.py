"""Checkpoint files: what they contain, what is loaded, what is refused."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import xxhash

import thalweg
from conftest import snapshot, unchanged
from thalweg import EMA, SGD, Accumulator, Adam, AdamW, Optimizer, read_checkpoint, schedule

SLOT = slice(45, 77)
"""Bytes of a file that hold its checksum."""


def model(value: float = 1.0) -> dict[str, Any]:
    return {
        "fc": {"w": np.full((3, 2), value, np.float32), "b": np.full(3, value)},
        "out": [np.full(2, value)],
    }


def train(opt: Optimizer, steps: int = 3) -> Optimizer:
    rng = np.random.default_rng(opt.step_count)
    for _ in range(steps):
        opt.step({name: rng.normal(size=array.shape) for name, array in opt.params.items()})
    return opt


def leaves(tree: Any) -> list[Any]:
    return list(thalweg.tree.flatten(tree).values())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


def test_a_loaded_optimizer_continues_with_the_same_bits(path: Path) -> None:
    opt = train(AdamW(model(), amsgrad=True, groups=[{"match": "*.b", "lr": 0.1}]))
    opt.save(path)
    params = model(0.0)
    again = AdamW(params, amsgrad=True, groups=[{"match": "*.b", "lr": 0.1}])
    arrays = {name: id(array) for name, array in again.params.items()}
    report = again.load(path)
    assert report == thalweg.LoadReport(step=3)
    assert {name: id(array) for name, array in again.params.items()} == arrays
    assert params["fc"]["w"] is again.params["fc.w"]
    train(opt)
    train(again)
    for name in opt.params:
        assert np.array_equal(opt.params[name], again.params[name])
        for key, value in opt.state[name].items():
            assert np.array_equal(value, again.state[name][key])


def test_safetensors_reads_a_file(path: Path) -> None:
    opt = train(AdamW(model()))
    acc = Accumulator(opt)
    acc.add({"fc": None, "out": [np.ones(2)]}, weight=2)
    opt.save(path, extra={"rows": np.arange(3), "name": "ünï"})
    tensors = safetensors.numpy.load_file(path)
    expected = {f"params/{name}": array for name, array in opt.params.items()}
    for name, leaf in opt.state.items():
        expected |= {f"state/{name}/{key}": leaf[key] for key in ("exp_avg", "exp_avg_sq")}
    sums = acc.state_dict()["state"]
    expected |= {f"attached/accumulator/state/{n}/sum": sums[n]["sum"] for n in opt.params}
    expected["extra/rows"] = np.arange(3)
    assert tensors.keys() == expected.keys()
    for name, array in expected.items():
        assert tensors[name].dtype == array.dtype
        assert np.array_equal(tensors[name], array)
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    assert metadata["thalweg.format"] == "1"
    assert json.loads(metadata["thalweg.extra"])["name"] == "ünï"
    saved = json.loads(metadata["thalweg.optimizer"])
    assert (saved["rule"], saved["step_count"]) == ("AdamW", 3)
    assert saved["params"]["fc.w"] == {"$tensor": "params/fc.w"}


def test_the_checksum_is_as_documented(path: Path) -> None:
    train(AdamW(model())).save(path)
    raw = path.read_bytes()
    zeroed = raw[: SLOT.start] + b"0" * 32 + raw[SLOT.stop :]
    assert xxhash.xxh3_128_hexdigest(zeroed).encode() == raw[SLOT]
    assert (8 + int.from_bytes(raw[:8], "little")) % 64 == 0


def test_the_same_content_gives_the_same_bytes(path: Path) -> None:
    opt = train(AdamW(model()))
    opt.save(path, extra={"a": 1})
    first = path.read_bytes()
    opt.save(path, extra={"a": 1})
    assert path.read_bytes() == first
    again = AdamW(model())
    again.load(path)
    again.save(path, extra={"a": 1})
    assert path.read_bytes() == first


@pytest.mark.parametrize("order", ["C", "F", "strided", "reversed", "field", "transposed"])
def test_arrays_of_any_strides(order: str, path: Path) -> None:
    base = np.arange(4 * 6 * 5, dtype=np.float64).reshape(4, 6, 5)
    layouts: dict[str, Any] = {
        "C": base.copy,
        "F": lambda: np.asfortranarray(base),
        "strided": lambda: np.repeat(base, 2, axis=2)[:, ::3, ::2],
        "reversed": lambda: base.copy()[::-1, :, ::-1],
        "field": lambda: np.zeros(9, {"names": ["w"], "formats": ["f4"], "itemsize": 12})["w"],
        "transposed": lambda: np.ones((300, 500), np.float32).T,
    }
    w = layouts[order]()
    opt = train(AdamW({"w": w}))
    opt.save(path)
    assert np.array_equal(safetensors.numpy.load_file(path)["params/w"], w)
    other = layouts[order]()
    other[...] = 0
    again = AdamW({"w": other})
    again.load(path)
    assert np.array_equal(other, w)
    assert np.array_equal(again.state["w"]["exp_avg"], opt.state["w"]["exp_avg"])
    # Into an array with another order in memory.
    plain = np.zeros(w.shape, w.dtype)
    AdamW({"w": plain}).load(path)
    assert np.array_equal(plain, w)


def test_empty_and_scalar_parameters_and_odd_names(path: Path) -> None:
    def odd() -> dict[Any, Any]:
        return {"": np.ones(()), "a/b": np.zeros((0, 3)), '"$é\n': np.ones(1), 7: np.float64([2])}

    opt = train(AdamW(odd()))
    opt.save(path)
    again = AdamW(odd())
    again.load(path)
    assert snapshot_values(again) == snapshot_values(opt)


def snapshot_values(opt: Optimizer) -> Any:
    steps, counts, arrays, _ = snapshot(opt)
    return steps, counts, {name: raw for name, (_, raw) in arrays.items()}


def test_names_of_tensors_that_would_collide_are_kept_apart(path: Path) -> None:
    def twins() -> dict[str, Any]:
        return {"a": np.ones(1), "a/exp_avg": np.ones(1), "a/exp_avg/exp_avg": np.full(1, 2.0)}

    opt = train(AdamW(twins()))
    opt.save(path)
    again = AdamW(twins())
    again.load(path)
    assert snapshot_values(again) == snapshot_values(opt)


def test_files_without_parameters_are_loaded_on_request(path: Path) -> None:
    opt = train(AdamW(model()))
    opt.save(path, params=False)
    assert read_checkpoint(path).params is None
    again = AdamW(model(5.0))
    with (
        unchanged(again),
        pytest.raises(ValueError, match=r"contains no parameters .*params=False"),
    ):
        again.load(path)
    again.load(path, params=False)
    assert (again.params["fc.w"] == 5.0).all()
    assert np.array_equal(again.state["fc.w"]["exp_avg"], opt.state["fc.w"]["exp_avg"])
    opt.save(path)
    again = AdamW(model(5.0))
    again.load(path, params=False)
    assert (again.params["fc.w"] == 5.0).all()
    assert again.step_count == 3


def test_a_frozen_parameter_is_saved_only_if_it_has_trained(path: Path) -> None:
    groups = [{"match": "fc.w", "frozen": True}]
    opt = train(AdamW(model(), groups=groups))
    opt.groups[1].frozen = False
    train(opt)
    opt.groups[0].frozen = True
    opt.groups[1].frozen = False
    train(opt, 1)
    opt.save(path)
    assert read_checkpoint(path).params.keys() == {"fc.w", "fc.b", "out.0"}  # type: ignore[union-attr]
    base = AdamW(model(), groups=groups)
    base.save(path)
    assert read_checkpoint(path).params.keys() == {"fc.b", "out.0"}  # type: ignore[union-attr]
    assert not any("fc.w" in name for name in safetensors.numpy.load_file(path))


def test_a_frozen_parameter_that_has_trained_is_loaded(path: Path) -> None:
    opt = train(AdamW(model(), groups=[{"match": "fc.*"}]))
    opt.groups[1].frozen = True
    train(opt)
    opt.save(path)
    again = AdamW(model(0.0), groups=[{"match": "fc.*", "frozen": True}])
    again.load(path)
    assert np.array_equal(again.params["fc.w"], opt.params["fc.w"])
    opt.groups[1].frozen = again.groups[1].frozen = False
    train(opt)
    train(again)
    assert snapshot_values(again) == snapshot_values(opt)


def test_a_replaced_parameter_is_neither_saved_nor_loaded(path: Path) -> None:
    params = model()
    opt = train(AdamW(params, groups=[{"match": "out.*"}]))
    params["fc"]["w"] = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match=r"'fc\.w' in params was replaced"):
        opt.save(path)
    assert not path.exists()
    opt.rebind(params)
    opt.save(path)
    params["fc"]["w"] = np.zeros((3, 2), np.float32)
    with unchanged(opt), pytest.raises(ValueError, match=r"'fc\.w' in params was replaced"):
        opt.load(path)


def test_every_difference_is_listed_and_nothing_loaded(path: Path) -> None:
    opt = train(AdamW({"w": np.ones(3), "b": np.ones(2), "old": np.ones(1)}))
    EMA(opt, 0.9, name="gone")
    opt.save(path)
    again = Adam({"w": np.ones(3, np.float32), "b": np.ones(5), "new": np.ones(1)})
    EMA(again, 0.9)
    with unchanged(again), pytest.raises(ValueError, match="does not fit") as refused:
        again.load(path)
    lines = str(refused.value).splitlines()
    assert lines[0] == f"'{path}' does not fit; nothing was loaded:"
    assert set(lines[1:]) >= {
        "- rule: saved 'AdamW', here 'Adam'",
        "- exp_avg of 'w': saved float64 (3,), here float32 (3,)",
        "- parameter 'w': saved float64 (3,), here float32 (3,)",
        "- parameter 'b': saved float64 (2,), here float64 (5,)",
        "- missing: 'new'",
        "- missing: 'ema'",
        "- unexpected: 'old', which is not a parameter that can train here",
        (
            "- unexpected: 'gone', an accumulator or average that is not attached here; attach it "
            "first (thalweg.EMA(opt, ...) or thalweg.Accumulator(opt))"
        ),
    }


def test_without_strict_what_fits_is_loaded_and_the_rest_is_reported(path: Path) -> None:
    opt = train(AdamW({"w": np.ones(3), "b": np.ones(2), "old": np.ones(1)}))
    opt.save(path, extra=7)
    again = AdamW({"w": np.zeros(3), "b": np.zeros(5), "new": np.zeros(1)})
    report = again.load(path, strict=False)
    assert (report.step, report.extra, report.missing) == (3, 7, ("new",))
    assert report.unexpected == ("old",)
    assert len(report.mismatched) == 3
    assert np.array_equal(again.params["w"], opt.params["w"])
    assert again.state["w"]["step"] == again.step_count == 3
    assert not again.params["b"].any()
    assert again.state["b"]["step"] == 0


def test_parameters_can_be_loaded_into_another_rule(path: Path) -> None:
    opt = train(AdamW(model()))
    opt.save(path)
    again = SGD(model(0.0), lr=0.1)
    report = again.load(path, strict=False, hyperparameters="current")
    assert len(report.mismatched) == 3
    assert np.array_equal(again.params["fc.w"], opt.params["fc.w"])
    assert (again.lr, again.state["fc.w"]["step"]) == (0.1, 0)


def test_load_takes_saved_or_current_hyperparameters(path: Path) -> None:
    AdamW(model(), lr=0.5 * schedule.linear(total=9)).save(path)
    again = AdamW(model(), lr=0.25)
    with pytest.warns(UserWarning, match=r"groups\[0\]\.lr: 0\.25 -> 0\.5 \* linear") as warned:
        report = again.load(path)
    assert [warning.filename for warning in warned] == [__file__]
    assert again.lr == 0.5 * schedule.linear(total=9)
    assert report.changed == {"groups[0].lr": (0.25, again.lr)}
    again = AdamW(model(), lr=0.25)
    assert again.load(path, hyperparameters="current").changed == {}
    assert again.lr == 0.25


def test_averages_and_sums_are_saved_with_the_optimizer(path: Path) -> None:
    opt = AdamW(model())
    ema, acc = EMA(opt, 0.5), Accumulator(opt)
    train(opt)
    ema.update()
    acc.add({"fc": None, "out": [np.ones(2)]}, weight=3)
    opt.save(path)
    again = AdamW(model())
    other, sums = EMA(again, 0.5), Accumulator(again)
    again.load(path)
    assert (other.count, sums.count, sums.weight) == (1, 1, 3.0)
    for one, averaged in zip(leaves(other.params), leaves(ema.params), strict=True):
        assert np.array_equal(one, averaged)
    assert np.array_equal(sums.grads["out.0"], acc.grads["out.0"])  # type: ignore[arg-type]
    assert sums.grads["fc.w"] is None
    with ema.swapped(), pytest.raises(thalweg.BusyError, match=r"ema\.swapped"):
        opt.save(path)
    with opt.open_step(), pytest.raises(thalweg.BusyError, match="open_step"):
        opt.save(path)
    with opt.open_step(), pytest.raises(thalweg.BusyError, match="open_step"):
        opt.load(path)


def test_a_file_is_read_without_an_optimizer(path: Path) -> None:
    opt = train(AdamW(model(), lr=schedule.cosine(total=9)))
    opt.save(path, extra=[1])
    checkpoint = read_checkpoint(str(path))
    assert checkpoint.extra == [1]
    assert checkpoint.params is not None
    for name, array in opt.params.items():
        assert np.array_equal(checkpoint.params[name], array)
        assert checkpoint.params[name].flags.writeable
    again = AdamW(model(), lr=schedule.cosine(total=9))
    again.load_state_dict(checkpoint.state_dict)
    assert again.step_count == 3
    assert repr(opt.state_dict()) == repr(checkpoint.state_dict)


def test_paths_of_no_file_are_refused(path: Path, tmp_path: Path) -> None:
    opt = AdamW(model())
    with pytest.raises(FileNotFoundError, match=r"nowhere'") as missing:
        opt.save(tmp_path / "nowhere" / "run")
    assert missing.value.filename == str(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="safetensors"):
        opt.load(path)
    for action in (opt.save, opt.load, read_checkpoint):
        with pytest.raises((ValueError, OSError), match="directory"):
            action(tmp_path)
    for wrong in (3, None, b"run"):
        with pytest.raises(TypeError):
            opt.save(wrong)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="no such files on Windows")
def test_links_are_followed_and_devices_refused(path: Path, tmp_path: Path) -> None:
    opt = AdamW(model())
    target = tmp_path / "there" / "target"
    target.parent.mkdir()
    opt.save(target)
    path.symlink_to(target)
    opt.save(path, extra=1)
    assert path.is_symlink()
    assert read_checkpoint(target).extra == 1
    os.mkfifo(tmp_path / "pipe")
    for odd in ("/dev/null", tmp_path / "pipe"):
        for action in (opt.save, opt.load):
            with pytest.raises((ValueError, OSError), match="regular file"):
                action(odd)
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_the_mode_of_the_old_file_is_kept(path: Path) -> None:
    opt = AdamW(model())
    opt.save(path)
    path.chmod(0o640)
    opt.save(path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_other_files_are_refused(path: Path) -> None:
    opt = AdamW(model())
    safetensors.numpy.save_file({"w": np.ones(3)}, path)
    with unchanged(opt), pytest.raises(ValueError, match="not a checkpoint of thalweg"):
        opt.load(path)
    with path.open("wb") as file:
        np.savez(file, w=np.ones(3))
    with unchanged(opt), pytest.raises(ValueError, match="not a checkpoint of thalweg"):
        opt.load(path)
    path.write_bytes(b"")
    with unchanged(opt), pytest.raises(ValueError, match="it is empty"):
        opt.load(path)


def test_a_file_of_a_later_format_is_refused(path: Path) -> None:
    AdamW(model()).save(path)
    raw = bytearray(path.read_bytes())
    at = raw.index(b'"thalweg.format":"1"')
    raw[at : at + 20] = b'"thalweg.format":"2"'
    raw[SLOT] = b"0" * 32
    raw[SLOT] = xxhash.xxh3_128_hexdigest(bytes(raw)).encode()
    path.write_bytes(raw)
    with pytest.raises(
        ValueError, match="must have format '1', which this version of thalweg reads, got '2'"
    ):
        AdamW(model()).load(path)


def test_a_state_dict_shares_arrays_only_with_copy_false() -> None:
    opt = train(AdamW(model()))
    ema = EMA(opt, 0.5)
    live = opt.state_dict(copy=False)
    assert live["attached"]["ema"]["state"]["fc.w"]["average"] is ema.params["fc"]["w"]
    copied = opt.state_dict()
    assert copied["attached"]["ema"]["state"]["fc.w"]["average"] is not ema.params["fc"]["w"]

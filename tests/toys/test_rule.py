"""A rule needs its own file and one row in the table, and has everything that other rules have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from thalweg import schedule
from toys import Toy, functional_toy, reference_toy

if TYPE_CHECKING:
    from pathlib import Path

VALUES = {"lr": 0.1, "momentum": 0.7, "weight_decay": 0.01}
RNG = np.random.default_rng(1)


def numbers(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.standard_normal(shape).astype(dtype)


def tree(dtype: Any = np.float32) -> dict[str, Any]:
    return {
        "w": numbers(61, 83, dtype=dtype),
        "t": numbers(83, 61, dtype=dtype).T,
        "s": numbers(40, 6, dtype=dtype)[::2, ::3],
        "big": numbers(140_003, dtype=dtype),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("maximize", [False, True])
def test_the_reference_gives_the_same_bits(dtype: Any, threads: int, maximize: bool) -> None:
    thalweg.set_num_threads(threads)
    params = tree(dtype)
    expected = {name: (np.array(p), np.zeros_like(p)) for name, p in params.items()}
    opt = Toy(params, maximize=maximize, **VALUES)
    for _ in range(5):
        grads = {name: np.ascontiguousarray(g) for name, g in tree(dtype).items()}
        opt.step(grads)
        for name, (p, average) in expected.items():
            expected[name] = reference_toy(p, grads[name], average, maximize=maximize, **VALUES)
    for name, (p, average) in expected.items():
        assert params[name].tobytes() == np.asarray(p).tobytes(), name
        assert opt.state[name]["toy_average"].tobytes() == np.asarray(average).tobytes()


def test_the_function_updates_the_arrays_of_a_tool() -> None:
    p, g, average = numbers(100), numbers(100), np.zeros(100, np.float32)
    expected = reference_toy(p.copy(), g, average.copy(), **VALUES)
    assert functional_toy(p, g, average, 1, **VALUES)
    assert [p.tobytes(), average.tobytes()] == [array.tobytes() for array in expected]


def test_keys_and_state_are_those_of_the_row() -> None:
    opt = Toy({"w": np.ones(3)}, **VALUES)
    opt.step({"w": np.ones(3)})
    assert Toy.rule.keys == ("lr", "momentum", "weight_decay")
    assert Toy.rule.options == ("maximize", "nonfinite")
    assert list(opt.state["w"]) == ["step", "toy_average"]
    with pytest.raises(TypeError, match="Toy has no 'betas'; it has lr, momentum, weight_decay"):
        Toy({"w": np.ones(3)}, groups=[{"match": "w", "betas": (0.9, 0.9)}])


@pytest.mark.parametrize(
    ("key", "value"), [("lr", -1.0), ("momentum", 1.5), ("weight_decay", np.inf)]
)
def test_values_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{key} must be"):
        Toy({"w": np.ones(3)}, **{**VALUES, key: value})


def test_the_rule_skips_clips_reports_sums_averages_and_saves(tmp_path: Path) -> None:
    params = {"w": np.ones(3, np.float32), "b": np.ones(2)}
    opt = Toy(params, nonfinite="skip", groups=[thalweg.no_decay()], **VALUES)
    accumulator, average = thalweg.Accumulator(opt), thalweg.EMA(opt, decay=0.5)
    accumulator.add({"w": np.ones(3), "b": np.full(2, 3.0)})
    report = opt.step(accumulator.grads, max_norm=1.0, stats=True)
    average.update()
    assert report.clip < 1.0
    assert report.stats is not None
    assert report.stats["w"].update_norm > 0.0
    assert opt.step({"w": np.full(3, np.nan), "b": np.ones(2)}).skipped
    assert opt.resolve("b")["weight_decay"] == 0.0
    path = tmp_path / "toy.safetensors"
    opt.save(path)
    other = Toy({"w": np.zeros(3, np.float32), "b": np.zeros(2)}, nonfinite="skip", **VALUES)
    thalweg.Accumulator(other)
    thalweg.EMA(other, decay=0.5)
    with pytest.warns(UserWarning, match="loading changes hyperparameters"):
        other.load(path)
    for one in (opt, other):
        one.step({"w": np.ones(3), "b": np.ones(2)})
    assert all((params[name] == other.params[name]).all() for name in params)


def test_a_directory_of_state_resumes(tmp_path: Path) -> None:
    values = {"lr": 0.1 * schedule.cosine(total=10), "momentum": 0.7}
    plain = {"w": np.ones(5, np.float32)}
    there = Toy(plain, **values)
    for _ in range(4):
        there.step({"w": np.arange(5, dtype=np.float32)})
    for _ in range(2):
        params = thalweg.map_params(tmp_path, {"w": np.ones(5, np.float32)})
        opt = Toy(params, state_dir=tmp_path, **values)
        for _ in range(2):
            opt.step({"w": np.arange(5, dtype=np.float32)})
        opt.close()
    assert (params["w"] == plain["w"]).all()

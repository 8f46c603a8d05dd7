"""Numbers of updates of rows, and saving and loading of optimizers whose gradients have rows."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from arrays import assert_same_bits, machine
from rules import Rule, every_lazy_rule
from test_rows import arrays_of, assert_equal, functional_rows, rows_of, table
from thalweg import AdamW, Rows, functional, reference

if TYPE_CHECKING:
    from pathlib import Path

CHOSEN = [[7, 3, 7, 39], [3, 5], [], [*range(40)], [39, 3, 1, 7, 7]]


def trained(opt: AdamW, steps: int = 5) -> AdamW:
    for step in range(opt.step_count, opt.step_count + steps):
        p = opt.params["e"]
        opt.step({"e": rows_of(p, CHOSEN[step % 5], step)})
    return opt


@every_lazy_rule
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 3])
def test_each_row_has_its_own_step(rule: Rule, dtype: str, threads: int) -> None:
    p = table((40, 6), dtype)
    opt = rule.make({"e": p.copy()}, rows="lazy", row_steps=True)
    expected, steps = [p, *(np.zeros_like(p) for _ in rule.state)], np.zeros(40, int)
    with machine(threads=threads):
        for turn, indices in enumerate(CHOSEN):
            rows = rows_of(p, indices, turn)
            opt.step({"e": rows}, stats=turn == 2)
            chosen, sums = reference.sum_rows(rows.indices, rows.values, p.dtype)
            for row, g in zip(chosen, sums, strict=True):
                steps[row] += 1
                gathered = [array[row] for array in expected]
                new = rule.define(gathered[0], g, gathered[1:], int(steps[row]), rule.typical)
                for array, rest in zip(expected, new, strict=True):
                    array[row] = rest
    *found, counts = arrays_of(opt)
    assert counts.tolist() == steps.tolist()
    assert opt.state["e"]["step"] == len(CHOSEN)
    for got, want in zip(found, expected, strict=True):
        assert_same_bits(got, want)


@pytest.mark.parametrize("layout", ["C", "F"])
def test_a_dense_gradient_is_that_of_every_row(layout: Any) -> None:
    one, other = (
        AdamW({"e": np.array(table((40, 6)), order=layout)}, rows="lazy", row_steps=True)
        for _ in range(2)
    )
    for opt in (one, other):
        trained(opt, 2)
    g = table((40, 6), seed=9)
    for given, opt in ((g[:, ::-1].copy()[:, ::-1], one), (Rows(np.arange(40), g), other)):
        opt.step({"e": given}, max_norm=1.0)
    assert_equal(one, other)
    assert one.state["e"]["row_steps"].tolist() == [1 + n for n in counts_of(2)]


def counts_of(steps: int) -> list[int]:
    return [sum(row in chosen for chosen in CHOSEN[:steps]) for row in range(40)]


def test_statistics_and_norm_are_those_of_all_rows() -> None:
    opt = trained(AdamW({"e": table((40, 6))}, rows="lazy", row_steps=True), 2)
    rows = rows_of(opt.params["e"], [39, 1, 3, 3, 20], 7)
    chosen, sums = reference.sum_rows(rows.indices, rows.values, np.float32)
    before = opt.params["e"].copy()
    report = opt.step({"e": rows}, max_norm=1.0, stats=True)
    assert report.grad_norm == reference.global_norm({"e": sums})
    found = report.stats["e"]
    assert found.grad_norm == report.grad_norm
    change = opt.params["e"] - before
    assert np.isclose(found.param_norm, np.linalg.norm(before[chosen]), rtol=1e-5)
    assert np.isclose(found.update_norm, np.linalg.norm(change), rtol=1e-5)


@pytest.mark.parametrize("state", ["bfloat16", "compact"])
def test_narrow_state_takes_the_dither_of_the_step_of_each_row(state: Any) -> None:
    opt = AdamW({"e": table((40, 128))}, rows="lazy", row_steps=True, state=state)
    for turn, indices in enumerate(CHOSEN):
        rows = rows_of(opt.params["e"], indices, turn)
        chosen, sums = reference.sum_rows(rows.indices, rows.values, np.float32)
        steps = opt.state["e"]["row_steps"]
        expected = []
        for row, g in zip(chosen, sums, strict=True):
            part = functional_rows(opt, np.array([row]))
            step = int(part.pop("row_steps")[0]) + 1
            functional.adamw(g=g[None], step=step, lr=1e-3, **part)
            expected.append(part)
        opt.step({"e": rows})
        assert steps is opt.state["e"]["row_steps"]
        for row, part in zip(chosen, expected, strict=True):
            found = functional_rows(opt, np.array([row]))
            for key, array in part.items():
                assert found[key].tobytes() == array.tobytes(), key


def test_a_skipped_step_counts_no_row() -> None:
    opt = AdamW({"e": table((40, 6))}, rows="lazy", row_steps=True, nonfinite="skip")
    opt.step({"e": Rows([3], np.full((1, 6), np.nan))})
    assert not opt.state["e"]["row_steps"].any()
    assert opt.state["e"]["step"] == 0


def test_negative_counts_are_refused() -> None:
    opt = AdamW({"e": table((40, 6))}, rows="lazy", row_steps=True)
    before = opt.params["e"].copy()
    opt.state["e"]["row_steps"][3] = -2
    with pytest.raises(ValueError, match="row_steps of 'e' must be at least 0, got -2 in row 3"):
        opt.step({"e": rows_of(before, [2, 3])})
    assert_same_bits(opt.params["e"], before)


OPTIONS: list[dict[str, Any]] = [
    {"rows": "lazy"},
    {"rows": "lazy", "row_steps": True},
    {"rows": "dense"},
    {"groups": [{"match": "e", "rows": "lazy", "row_steps": True}]},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("how", ["file", "dict", "pickle", "copy"])
def test_a_run_resumes(options: dict[str, Any], how: str, tmp_path: Path) -> None:
    opt = trained(AdamW({"e": table((40, 6))}, **options), 3)
    if how == "pickle":
        again = pickle.loads(pickle.dumps(opt))  # noqa: S301 - ours
    elif how == "copy":
        again = copy.deepcopy(opt)
    else:
        again = AdamW({"e": opt.params["e"].copy()}, **options)
        if how == "file":
            opt.save(tmp_path / "run.safetensors")
            again.load(tmp_path / "run.safetensors")
        else:
            again.load_state_dict(opt.state_dict())
    assert repr(again) == repr(opt)
    for name in ("rows", "row_steps"):
        assert again.resolve("e")[name] == opt.resolve("e")[name]
    for one in (opt, again):
        trained(one, 2)
    assert_equal(opt, again)


@pytest.mark.parametrize("height", [39, 41])
def test_state_of_another_height_is_refused(height: int) -> None:
    saved = trained(AdamW({"e": table((40, 6))}, rows="lazy", row_steps=True)).state_dict()
    other = AdamW({"e": table((height, 6))}, rows="lazy", row_steps=True)
    with pytest.raises(ValueError, match="row_steps of 'e'"):
        other.load_state_dict(saved)
    assert not other.state["e"]["row_steps"].any()


def test_steps_of_rows_are_kept_or_missing_as_a_whole() -> None:
    counted = trained(AdamW({"e": table((40, 6))}, rows="lazy", row_steps=True))
    plain = trained(AdamW({"e": table((40, 6))}, rows="lazy"))
    for one, other in ((counted, plain), (plain, counted)):
        with pytest.raises(ValueError, match="state of 'e': saved"):
            one.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="row_steps of 'e' must stay True, got False"):
        counted.groups[0].row_steps = False
    with pytest.raises(ValueError, match="row_steps of 'e' must stay False, got True"):
        plain.groups[0].row_steps = True
    with pytest.raises(ValueError, match="row_steps=True needs rows='lazy'"):
        counted.groups[0].rows = "dense"


def test_a_number_has_no_rows_to_count() -> None:
    """Not even while it is frozen, when it has no state yet."""
    params = {"e": table((40, 6)), "t": np.ones(())}
    saved = AdamW(params).state_dict()
    frozen = [{"match": "t", "frozen": True, "rows": "lazy", "row_steps": True}]
    opt = AdamW(params, groups=frozen)
    with pytest.raises(ValueError, match="does not fit"):
        opt.load_state_dict(saved)
    with pytest.raises(ValueError, match="'t' must have at least one axis"):
        opt.groups[1].frozen = False


def test_reset_sets_the_counts_to_zero() -> None:
    opt = trained(AdamW({"e": table((40, 6))}, rows="lazy", row_steps=True))
    opt.reset()
    assert not opt.state["e"]["row_steps"].any()


@pytest.mark.parametrize("options", OPTIONS)
def test_rows_of_mapped_files(options: dict[str, Any], tmp_path: Path) -> None:
    inside = trained(AdamW({"e": table((40, 6))}, **options), 4)
    for _ in range(2):
        params = thalweg.map_params(tmp_path, {"e": table((40, 6))})
        opt = AdamW(params, state_dir=tmp_path, **options)
        trained(opt, 2)
        values = np.lib.format.open_memmap(opt.params["e"].filename, mode="r")[:2]
        with pytest.raises(ValueError, match="share memory"):
            opt.step({"e": Rows([1, 2], values)})
        opt.close()
    assert_equal(inside, opt)


def test_a_run_on_narrow_tables_resumes() -> None:
    made = [
        AdamW({"e": table((40, 128), "f2")}, rows="lazy", row_steps=True, state="compact")
        for _ in range(2)
    ]
    trained(made[0], 3)
    made[1].load_state_dict(made[0].state_dict())
    made[1].params["e"][...] = made[0].params["e"]
    for opt in made:
        trained(opt, 2)
    assert_equal(*made)
    assert thalweg.compact.decode(made[0], "e").keys() == {"param", "exp_avg", "exp_avg_sq"}

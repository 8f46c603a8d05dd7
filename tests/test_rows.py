"""Gradients of some rows: the bits of one ordinary update of these rows, or of zeros elsewhere."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import thalweg
from arrays import Array, assert_same_bits, machine, numbers
from rules import Rule, every_lazy_rule, every_rule
from thalweg import Accumulator, AdamW, Rows, functional, reference

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
SHAPES = [(40, 6), (40,), (40, 3, 4), (40, 0), (300, 70)]
CHOSEN = [[7, 3, 7, 39, 0, 3, 7], [5], [], [*range(40)], [39, 38, 1]]


def table(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def rows_of(p: Array, indices: Any, seed: int = 1, dtype: Any = None) -> Rows:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((len(indices), *p.shape[1:])).astype(dtype or p.dtype)
    return Rows(np.array(indices, np.int64), values)


def dense_of(p: Array, rows: Rows) -> Array:
    """The gradient with zeros elsewhere."""
    dtype = p.dtype if p.dtype == np.float64 else np.dtype(np.float32)
    chosen, sums = reference.sum_rows(rows.indices, rows.values, dtype)
    dense = np.zeros(p.shape, dtype)
    dense[chosen] = sums
    return dense


def arrays_of(opt: thalweg.Optimizer, name: str = "e") -> list[Array]:
    return [opt.params[name], *(a for key, a in opt.state[name].items() if key != "step")]


def assert_equal(one: thalweg.Optimizer, other: thalweg.Optimizer) -> None:
    assert one.state["e"]["step"] == other.state["e"]["step"]
    for a, b in zip(arrays_of(one), arrays_of(other), strict=True):
        assert a.tobytes() == b.tobytes()


@every_lazy_rule
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_lazy_rows_equal_the_reference(
    rule: Rule, dtype: str, shape: tuple[int, ...], threads: int
) -> None:
    p = table(shape, dtype)
    opt = rule.make({"e": p.copy()}, rows="lazy")
    expected = [p, *(np.zeros_like(p) for _ in rule.state)]
    with machine(threads=threads):
        for step, indices in enumerate(CHOSEN, 1):
            given_rows = rows_of(p, indices, step)
            opt.step({"e": given_rows})
            rows, sums = reference.sum_rows(given_rows.indices, given_rows.values, p.dtype)
            gathered = [array[rows] for array in expected]
            new = rule.define(gathered[0], sums, gathered[1:], step, rule.typical)
            for array, rest in zip(expected, new, strict=True):
                array[rows] = rest
    for got, want in zip(arrays_of(opt), expected, strict=True):
        assert_same_bits(got, want)
    assert opt.state["e"]["step"] == len(CHOSEN)


@pytest.mark.parametrize("options", [{"cautious": True}, {"update_rms": 0.3}])
def test_a_measure_is_of_the_rows(options: dict[str, Any]) -> None:
    p = table((40, 6))
    opt = AdamW({"e": p.copy()}, lr=0.1, rows="lazy", **options)
    expected = [p, np.zeros_like(p), np.zeros_like(p)]
    for step, indices in enumerate(CHOSEN, 1):
        given_rows = rows_of(p, indices, step)
        opt.step({"e": given_rows})
        rows, sums = reference.sum_rows(given_rows.indices, given_rows.values, p.dtype)
        gathered = [array[rows] for array in expected]
        new = reference.adam(
            gathered[0], sums, *gathered[1:], step, lr=0.1, weight_decay=0.01, **options
        )
        for array, rest in zip(expected, new, strict=True):
            array[rows] = rest
    for got, want in zip(arrays_of(opt), expected, strict=True):
        assert_same_bits(got, want)


def test_a_measure_is_of_all_rows_whatever_their_counts() -> None:
    """After one step of all rows, those with the same and with other counts move alike."""
    p, g = table((4, 6), "float64"), table((4, 6), "float64")
    moved = []
    for counted in (False, True):
        q = p.copy()
        opt = AdamW({"e": q}, lr=0.1, rows="lazy", row_steps=counted, update_rms=0.1, cautious=True)
        opt.step({"e": Rows([0, 1, 2, 3], g)})
        moved.append(q)
    assert_same_bits(*moved)
    opt.step({"e": Rows([0], g[:1])})
    before = q.copy()
    opt.step({"e": Rows([0, 1, 2, 3], g)})  # row 0 is at step 3, the others are at step 2
    assert (q != before).any(axis=1).all()


@every_rule
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_dense_rows_equal_a_gradient_with_zeros(rule: Rule, dtype: str) -> None:
    one = rule.make({"e": table((40, 6), dtype)}, rows="dense")
    other = rule.make({"e": table((40, 6), dtype)})
    for step, indices in enumerate(CHOSEN):
        rows = rows_of(one.params["e"], indices, step)
        reports = [
            opt.step({"e": g}, max_norm=1.0, stats=True)
            for opt, g in ((one, rows), (other, dense_of(one.params["e"], rows)))
        ]
        assert repr(reports[0]) == repr(reports[1])
    assert_equal(one, other)


def functional_rows(opt: thalweg.Optimizer, indices: Array) -> dict[str, Array]:
    """Copies of the rows of the arrays of a parameter, for `functional.adamw`."""
    p, leaf = opt.params["e"], opt.state["e"]
    found = {"p": p[indices]}
    for key, array in leaf.items():
        if key == "exp_avg_sq_base":
            found[key] = array.reshape(len(p), -1)[indices].reshape(-1)
        elif key != "step":
            found[key] = array[indices]
    return {key: array.copy() for key, array in found.items()}


@pytest.mark.parametrize("state", ["full", "bfloat16", "compact"])
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("threads", [1, 3])
def test_lazy_rows_of_narrow_arrays(state: Any, kind: str, threads: int) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype = ml_dtypes.bfloat16 if kind == "bfloat16" else np.dtype(kind)
    opt = AdamW({"e": table((90, 128), dtype)}, rows="lazy", state=state)
    rng = np.random.default_rng(0)
    with machine(threads=threads):
        for step in range(1, 5):
            rows = rows_of(table((90, 128)), rng.integers(0, 90, 50), step, [dtype, "f4"][step % 2])
            chosen, sums = reference.sum_rows(rows.indices, rows.values, np.float32)
            expected = functional_rows(opt, chosen)
            others = np.setdiff1d(np.arange(90), chosen)
            before = functional_rows(opt, others)
            functional.adamw(g=sums, step=step, lr=1e-3, **expected)
            opt.step({"e": rows}, stats=step == 3)
            for got, want in ((chosen, expected), (others, before)):
                for key, array in functional_rows(opt, got).items():
                    assert array.tobytes() == want[key].tobytes(), (step, key)


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "columns": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "slice of columns": lambda x: np.pad(x, ((0, 0), (1, 3)))[:, 1:-3],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("of", ["table", "values", "both"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("meaning", ["lazy", "dense"])
def test_strides_do_not_change_the_bits(layout: str, of: str, dtype: str, meaning: Any) -> None:
    place = LAYOUTS[layout]
    plain = table((40, 6), dtype)
    made = [AdamW({"e": plain.copy()}, rows=meaning)]
    made.append(AdamW({"e": plain.copy() if of == "values" else place(plain)}, rows=meaning))
    for step, indices in enumerate(CHOSEN):
        rows = rows_of(plain, indices, step)
        moved = rows if of == "table" or not len(rows) else Rows(rows.indices, place(rows.values))
        made[0].step({"e": rows})
        made[1].step({"e": moved})
    for one, other in zip(*map(arrays_of, made), strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("level", thalweg.cpu_levels())
@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("stats", [False, True])
def test_levels_and_threads_do_not_change_the_bits(
    level: str, threads: int, *, stats: bool
) -> None:
    rng = np.random.default_rng(3)
    runs = [AdamW({"e": table((3000, 37))}, rows="lazy") for _ in range(2)]
    norms = []
    for opt, how in zip(runs, ((None, None), (level, threads)), strict=True):
        with machine(*how):
            rng = np.random.default_rng(3)
            for step in range(3):
                rows = rows_of(opt.params["e"], rng.integers(0, 3000, 2000), step)
                report = opt.step({"e": rows}, max_norm=1.0, stats=stats and opt is runs[1])
                norms.append(report.grad_norm)
    assert norms[:3] == norms[3:]
    assert_equal(*runs)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_any_integers_are_indices(dtype: str) -> None:
    p = np.zeros((9, 2))
    indices = np.array([8, 0, 8], dtype)
    thalweg.SGD(p, lr=1.0, rows="lazy").step(Rows(indices, np.ones((3, 2))))
    assert p[:, 0].tolist() == [-1.0, *[0.0] * 7, -2.0]


@given(st.data())
def test_repeated_rows_are_summed_in_order(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    indices = data.draw(st.lists(st.integers(0, 5), max_size=12))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = numbers(rng, 3 * len(indices), np.dtype(np.float64)).reshape(-1, 3)
    p = np.zeros((6, 3), dtype)
    with np.errstate(all="ignore"):
        rows, sums = reference.sum_rows(np.array(indices, np.int64), values, dtype)
        expected = reference.lazy(
            reference.sgd, p, rows, sums, [np.zeros_like(p)], step=1, lr=1.0, momentum=0.5
        )
    state = np.zeros_like(p)
    functional.sgd(p, Rows(indices, values), state, 1, lr=1.0, momentum=0.5, nonfinite="ignore")
    assert_same_bits(p, expected[0])
    assert_same_bits(state, expected[1])


@pytest.mark.parametrize("limit", ["max_norm", "max_tensor_norm", "max_value"])
def test_clipping_takes_the_sums(limit: str) -> None:
    opt = AdamW({"e": table((40, 6)), "b": table((5,))}, rows="lazy")
    other = copy.deepcopy(opt)
    for step, indices in enumerate(CHOSEN, 1):
        rows, g = rows_of(opt.params["e"], indices, step), table((5,), seed=step)
        chosen, sums = reference.sum_rows(rows.indices, rows.values, np.float32)
        report = opt.step({"e": rows, "b": g}, **{limit: 0.5})
        again = other.step({"e": Rows(chosen, sums), "b": g}, **{limit: 0.5})
        assert repr(report) == repr(again)
        if limit == "max_norm":
            assert report.grad_norm == reference.global_norm({"b": g, "e": sums})
    assert_equal(opt, other)


def test_statistics_are_those_of_the_rows() -> None:
    p = table((40, 6))
    rows = rows_of(p, CHOSEN[0])
    chosen, sums = reference.sum_rows(rows.indices, rows.values, np.float32)
    part = p[chosen]
    found = AdamW({"e": p}, rows="lazy").step({"e": rows}, stats=True).stats
    assert found == AdamW({"e": part}).step({"e": sums}, stats=True).stats


@pytest.mark.parametrize("meaning", ["lazy", "dense"])
def test_refused_values(meaning: Any) -> None:
    values = np.array([[1.0, 2.0], [np.nan, 1.0], [np.inf, np.nan]])
    rows = Rows([2, 0, 2], values)
    for policy in ("raise", "skip", "ignore"):
        p = np.ones((4, 2))
        opt = AdamW({"e": p}, rows=meaning, nonfinite=policy)
        if policy == "raise":
            with pytest.raises(thalweg.NonFiniteError) as refused:
                opt.step({"e": rows})
            assert refused.value.nonfinite == {"e": 3}
        else:
            report = opt.step({"e": rows})
            assert report.nonfinite == ({"e": 3} if policy == "skip" else {})
        if policy != "ignore":
            assert (p == 1).all()
            assert opt.state["e"]["step"] == 0
        else:
            assert np.isnan(p[[0, 2]]).sum() == 3
            assert np.isfinite(p[[1, 3]]).all()


def test_the_meaning_may_change_during_a_run() -> None:
    p = np.ones((4, 2))
    opt = AdamW({"e": p}, lr=0.1, rows="lazy")
    opt.step({"e": Rows([1], np.ones((1, 2)))})
    before = p.copy()
    opt.groups[0].rows = "dense"
    opt.step({"e": Rows([2], np.ones((1, 2)))})
    assert (p != before).all(axis=1).tolist() == [True, True, True, True]
    opt.groups[0].rows = None
    with pytest.raises(ValueError, match="must be told what they mean"):
        opt.step({"e": Rows([2], np.ones((1, 2)))})


def test_parts_of_a_step_take_rows() -> None:
    opt, other = (AdamW({"e": table((9, 3)), "b": np.ones(2)}, rows="lazy") for _ in range(2))
    rows = rows_of(opt.params["e"], [3, 1, 3])
    opt.step({"e": rows, "b": np.ones(2)})
    with other.open_step() as step:
        step({"e": rows})
        step({"b": np.ones(2)})
    assert_equal(opt, other)
    opt.step({"e": rows}, partial=True)
    assert (opt.state["e"]["step"], opt.state["b"]["step"]) == (2, 1)


@pytest.mark.parametrize("first", ["rows", "dense"])
def test_an_accumulator_adds_rows(first: str) -> None:
    params = {"e": np.zeros((4, 2), np.float32)}
    acc = Accumulator(params)
    expected = np.zeros((4, 2), np.float32)
    rng = np.random.default_rng(0)
    acc.add({"e": np.full((4, 2), 7.0)})
    acc.clear()
    for turn in range(4):
        if (turn == 0) == (first == "rows"):
            rows = Rows([3, 0, 3], rng.standard_normal((3, 2)))
            acc.add({"e": rows}, weight=0.5)
            expected += np.float32(0.5) * dense_of(params["e"], rows)
        else:
            g = rng.standard_normal((4, 2)).astype(np.float32)
            acc.add({"e": g}, weight=0.5)
            expected += np.float32(0.5) * g
    assert_same_bits(acc.grads["e"], expected)
    assert (acc.count, acc.weight) == (4, 2.0)


def test_functions_take_rows_in_lists() -> None:
    p, q = table((6, 2)), table((3,))
    state = [[np.zeros_like(x) for x in (p, q)] for _ in range(2)]
    rows = Rows([4, 1, 4], table((3, 2), seed=2))
    chosen, sums = reference.sum_rows(rows.indices, rows.values, np.float32)
    new = reference.lazy(
        reference.adam, p, chosen, sums, [np.zeros_like(p)] * 2, step=3, lr=0.1, weight_decay=1e-2
    )
    functional.adamw([p, q], [rows, np.ones_like(q)], *state, 3, lr=0.1)
    for got, want in zip((p, state[0][0], state[1][0]), new, strict=True):
        assert_same_bits(got, want)


def test_rows_survive_pickling_and_copies() -> None:
    rows = Rows([2, 1], table((2, 3)))
    for again in (pickle.loads(pickle.dumps(rows)), copy.copy(rows), copy.deepcopy(rows)):  # noqa: S301 - ours
        assert again.indices.tolist() == [2, 1]
        assert not again.indices.flags.writeable
        assert_same_bits(again.values, rows.values)
    assert (len(rows), repr(rows)) == (2, "Rows(2 rows of shape (3,), float32)")
    with pytest.raises(AttributeError):
        rows.values = rows.values


def test_rows_keep_their_indices() -> None:
    indices = np.array([1, 2])
    rows = Rows(indices, np.ones((2, 1)))
    indices[:] = 7
    assert rows.indices.tolist() == [1, 2]


class Lying(Rows):
    """Rows whose attributes are not what the class promises."""

    __slots__ = ("given",)

    @property
    def indices(self) -> Any:
        return self.given


@pytest.mark.parametrize(
    "given_indices",
    [
        np.array([1, -1]),
        np.array([1, 4]),
        np.array([1, 2, 3]),
        np.array([1.0, 2.0]),
        np.array([[1, 2]]),
        np.array([1, 0, 2, 0])[::2],
        [1, 2],
        None,
    ],
)
def test_what_indices_say_is_checked_at_each_step(given_indices: Any) -> None:
    p = np.ones((4, 2))
    opt = AdamW({"e": p}, rows="lazy")
    rows = Lying([1, 2], np.ones((2, 2)))
    rows.given = given_indices
    with pytest.raises(ValueError, match="of the gradient of 'e' must"):
        opt.step({"e": rows})
    with pytest.raises(ValueError, match="of g must"):
        functional.sgd(p, rows, None, 1, lr=0.1)
    assert (p == 1).all()
    assert opt.state["e"]["step"] == opt.step_count == 0


def test_a_conversion_that_changes_the_table_is_noticed() -> None:
    p = np.ones((4, 2))
    opt = AdamW({"e": p}, rows="lazy")

    class Resizing(Rows):
        __slots__ = ()

        @property
        def values(self) -> Any:
            p.resize((2, 2), refcheck=False)
            return np.ones((2, 2))

    with pytest.raises(ValueError, match="its shape differs"):
        opt.step({"e": Resizing([1, 2], np.ones((2, 2)))})
    assert (p == 1).all()


@pytest.mark.parametrize("meaning", ["lazy", "dense"])
def test_values_that_share_memory_with_the_table_are_refused(meaning: Any) -> None:
    p = np.ones((4, 2))
    opt = AdamW({"e": p}, rows=meaning)
    for values in (p[:2], p[2:], opt.state["e"]["exp_avg"][1:3]):
        with pytest.raises(ValueError, match="share memory"):
            opt.step({"e": Rows([1, 1], values)})
    assert (p == 1).all()


def test_a_gradient_of_no_rows_counts_as_an_update() -> None:
    p = np.ones((4, 2))
    opt = AdamW({"e": p}, rows="lazy")
    report = opt.step({"e": Rows([], np.zeros((0, 2)))}, stats=True)
    assert (p == 1).all()
    assert (report.step, opt.state["e"]["step"]) == (1, 1)
    assert math.isclose(report.stats["e"].grad_norm, 0.0)

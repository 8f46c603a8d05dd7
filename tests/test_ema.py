"""Averages of parameters equal the reference bit for bit, and are exchanged for evaluation."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg
from arrays import (
    Array,
    assert_same_bits,
    generators,
    machine,
    numbers,
    place,
    shapes,
    types,
    writable,
)
from conftest import snapshot
from thalweg import EMA, reference

if TYPE_CHECKING:
    from collections.abc import Callable

decays = st.sampled_from([0.0, 0.3, np.nextafter(0.5, 0), 0.5, 0.9, 0.9999, 1 - 2**-53])


def rising(update: int) -> float:
    return min(0.999, (1 + update) / (10 + update))


def averaged(start: Array, seen: list[Array], decay: Any, *, bias_correction: bool) -> Array:
    average = start
    with np.errstate(all="ignore"):
        for step, p in enumerate(seen, start=1):
            number = decay(step) if callable(decay) else decay
            average = reference.average(average, p, step, number, bias_correction=bias_correction)
    return np.asarray(average)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_averages_equal_the_reference(data: st.DataObject) -> None:
    shape, dtype, rng = data.draw(shapes), data.draw(types), data.draw(generators)
    decay = data.draw(decays | st.just(rising))
    options = {"bias_correction": data.draw(st.booleans())}
    _, p = place(numbers(rng, shape, dtype), data.draw(writable))
    start = p.copy()
    seen = [numbers(rng, shape, dtype) for _ in range(data.draw(st.integers(0, 4)))]
    expected = averaged(start, seen, decay, **options)
    for level in thalweg.cpu_levels():
        p[...] = start
        ema = EMA({"p": p}, decay, **options)
        held = ema.params["p"]
        with machine(level, data.draw(st.sampled_from([1, 3]))):
            for values in seen:
                p[...] = values
                ema.update()
        assert ema.params["p"] is held
        assert_same_bits(held, expected)
        if seen:
            assert_same_bits(p, seen[-1])
        assert ema.count == len(seen)


@pytest.mark.parametrize("layout", ["contiguous", "Fortran", "sliced"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_share_large_averages_and_exchanges(dtype: str, layout: str) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 503, 499)).astype(dtype)
    for level in thalweg.cpu_levels():
        for threads in (1, 2, 3, 7):
            _, p = place(first, layout)
            ema = EMA(p, 0.9)
            p[...] = second
            with machine(level, threads):
                ema.update()
                expected = averaged(first, [second], 0.9, bias_correction=False)
                assert_same_bits(ema.params, expected)
                with ema.swapped():
                    assert_same_bits(p, expected)
                    assert_same_bits(ema._mirrored.arrays["0"], second)
                assert_same_bits(p, second)
                assert_same_bits(ema.params, expected)


def test_without_bias_correction_the_average_starts_at_the_parameters() -> None:
    p = np.array([1 / 3, -7.1])
    ema = EMA(p, 0.9)
    assert_same_bits(ema.params, p)
    for _ in range(10):
        ema.update()
    assert_same_bits(ema.params, p)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99, 0.999999])
def test_with_bias_correction_the_average_is_the_weighted_mean_of_the_updates(decay: float) -> None:
    rng = np.random.default_rng(3)
    p = np.full(4, 1e6)  # the value at the start has no weight
    ema = EMA(p, decay, bias_correction=True)
    raw = np.zeros(4)
    for update in range(1, 30):
        p[...] = rng.standard_normal(4)
        ema.update()
        raw = decay * raw + (1 - decay) * p
        corrected = raw / (-np.expm1(update * np.log(decay)) if decay else 1.0)
        assert ema.params == pytest.approx(corrected, rel=1e-9)


def test_decay_can_be_assigned_and_is_checked() -> None:
    p = np.zeros(2)
    ema = EMA(p, 0.5)
    p += 1.0
    ema.decay = 0.75
    ema.update()
    assert ema.params.tolist() == [0.25, 0.25]
    for decay in (1.0, -0.1, np.nan):
        with pytest.raises(ValueError, match=r"^decay must be"):
            ema.decay = decay
        with pytest.raises(ValueError, match=r"^decay must be"):
            EMA(p, decay)
    assert ema.decay == 0.75
    ema.decay = lambda update: 1.0 if update == 2 else 0.0
    with pytest.raises(ValueError, match=r"^decay must be .* at step 2$"):
        ema.update()
    assert (ema.count, ema.params.tolist()) == (1, [0.25, 0.25])


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "numbers": ({"w": [1.0, 2.0]}, TypeError, "'w.0' must be .*, got float"),
    "integers": ({"w": np.arange(3)}, TypeError, "'w' must have dtype .*, got int64"),
    "masked": ({"w": np.ma.ones(3)}, TypeError, "'w' must be .*, got a masked array"),
    "complex": (
        {"w": np.ones(3, np.complex64)},
        TypeError,
        "'w' must have dtype .*, got complex64",
    ),
    "big-endian": ({"w": np.ones(3, ">f4")}, TypeError, "'w' must have dtype .*, got >f4"),
    "nothing": ({}, ValueError, "must contain at least one array"),
    "None": (None, ValueError, "must contain at least one array"),
}


@pytest.mark.parametrize(
    "make", [thalweg.Accumulator, lambda params: EMA(params, 0.9)], ids=["Accumulator", "EMA"]
)
@pytest.mark.parametrize(("params", "error", "message"), BAD.values(), ids=BAD)
def test_invalid_parameters_are_refused(
    make: Callable[[Any], Any], params: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(params)


# The exchange of averages and parameters.


def trained() -> tuple[dict[str, Any], thalweg.Optimizer, EMA]:
    params = {"w": np.arange(6.0).reshape(2, 3).T, "b": [np.ones(3, np.float32), np.ones(())]}
    opt = thalweg.AdamW(params, lr=0.1)
    ema = EMA(opt, 0.5)
    train(opt, ema)
    return params, opt, ema


def train(opt: thalweg.Optimizer, ema: EMA) -> None:
    opt.step({name: np.full(p.shape, 0.5) for name, p in opt.params.items()})
    ema.update()


def everything(opt: thalweg.Optimizer, ema: EMA) -> Any:
    arrays = {name: (id(a), a.tobytes()) for name, a in ema._mirrored.arrays.items()}
    return snapshot(opt), arrays, ema.count, ema.decay


def test_inside_swapped_the_parameters_are_the_averages_bit_for_bit() -> None:
    params, opt, ema = trained()
    strange = [-0.0, np.nan, np.inf, 5e-324, -5e-324, 1e308]
    params["w"].T.flat[...] = strange
    ema._mirrored.arrays["w"].T.flat[...] = strange[::-1]
    before = everything(opt, ema)
    averages = {name: a.tobytes() for name, a in ema._mirrored.arrays.items()}
    originals = {name: p.tobytes() for name, p in opt.params.items()}
    with ema.swapped() as tree:
        assert tree is params
        assert {name: p.tobytes() for name, p in opt.params.items()} == averages
        assert {name: a.tobytes() for name, a in ema._mirrored.arrays.items()} == originals
    assert everything(opt, ema) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_leaving_by_an_exception_exchanges_back(error: type[BaseException]) -> None:
    _, opt, ema = trained()
    before = everything(opt, ema)
    with pytest.raises(error), ema.swapped():
        raise error
    assert everything(opt, ema) == before
    train(opt, ema)


def test_writes_to_parameters_inside_swapped_end_up_in_the_averages() -> None:
    params, _, ema = trained()
    with ema.swapped():
        params["b"][0][...] = 7.0
    assert ema.params["b"][0].tolist() == [7.0] * 3
    assert params["b"][0][0] != 7.0


def loading(opt: thalweg.Optimizer, ema: EMA) -> Callable[[], Any]:
    saved, kept = opt.state_dict(), ema.state_dict()
    return lambda: (opt.load_state_dict(saved), ema.load_state_dict(kept))


def loading_the_average(_: thalweg.Optimizer, ema: EMA) -> Callable[[], Any]:
    saved = ema.state_dict()
    return lambda: ema.load_state_dict(saved)


def nesting(_: thalweg.Optimizer, ema: EMA) -> Callable[[], Any]:
    return lambda: ema.swapped().__enter__()


def nesting_another(opt: thalweg.Optimizer, _: EMA) -> Callable[[], Any]:
    other = EMA(opt, 0.9, name="other")
    return lambda: other.swapped().__enter__()


def editing_decay(_: thalweg.Optimizer, ema: EMA) -> Callable[[], Any]:
    return lambda: setattr(ema, "decay", 0.1)


REFUSED_INSIDE: dict[str, Callable[[Any, Any], Callable[[], Any]]] = {
    "step": lambda opt, _: lambda: opt.step({"w": None, "b": [np.ones(3), None]}),
    "open_step": lambda opt, _: lambda: opt.open_step().__enter__(),
    "update": lambda _, ema: ema.update,
    "save": lambda opt, _: opt.state_dict,
    "save the average": lambda _, ema: ema.state_dict,
    "load": loading,
    "load the average": loading_the_average,
    "pickle": lambda opt, _: lambda: pickle.dumps(opt),
    "pickle the average": lambda _, ema: lambda: pickle.dumps(ema),
    "copy": lambda opt, _: lambda: copy.deepcopy(opt),
    "edit": lambda opt, _: lambda: setattr(opt, "lr", 0.3),
    "freeze": lambda opt, _: lambda: setattr(opt.groups[0], "frozen", True),
    "decay": editing_decay,
    "reset": lambda opt, _: opt.reset,
    "rebind": lambda opt, _: lambda: opt.rebind(opt._held.tree),
    "extend": lambda opt, _: lambda: opt.extend({**opt._held.tree, "more": np.ones(2)}),
    "another average": lambda opt, _: lambda: EMA(opt, 0.9),
    "a sum": lambda opt, _: lambda: thalweg.Accumulator(opt),
    "nested": nesting,
    "nested in another's": nesting_another,
}


@pytest.mark.parametrize("prepare", REFUSED_INSIDE.values(), ids=REFUSED_INSIDE)
def test_training_saving_and_editing_are_refused_inside_swapped(
    prepare: Callable[[Any, Any], Callable[[], Any]],
) -> None:
    _, opt, ema = trained()
    act = prepare(opt, ema)
    before = everything(opt, ema)
    with ema.swapped():
        inside = everything(opt, ema)
        with pytest.raises(
            thalweg.BusyError, match=r"swapped with their averages \(ema\.swapped\(\) or"
        ):
            act()
        assert everything(opt, ema) == inside
    assert everything(opt, ema) == before
    train(opt, ema)


def replaced(params: Any) -> None:
    params["w"] = params["w"].copy()


def read_only(params: Any) -> None:
    params["w"].setflags(write=False)


def shrunk(params: Any) -> None:
    params["b"][0].resize(2, refcheck=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [(replaced, "'w'.*rebind"), (read_only, "'w'.*read-only"), (shrunk, r"'b\.0'")],
)
def test_an_exchange_that_does_not_fit_is_refused_before_it_begins(
    change: Callable[[Any], None], message: str
) -> None:
    params, opt, ema = trained()
    change(params)
    before = everything(opt, ema)
    with pytest.raises(ValueError, match=message), ema.swapped():
        pytest.fail("inside")
    assert everything(opt, ema) == before


def test_parameters_of_a_tree_that_share_memory_are_not_exchanged() -> None:
    memory = np.arange(4.0)
    ema = EMA({"one": memory[:3], "two": memory[1:]}, 0.5)
    ema.update()
    with pytest.raises(ValueError, match="'one' and parameter 'two' share memory"), ema.swapped():
        pytest.fail("inside")
    assert memory.tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("value", [np.ones(2), np.ones(3, int), "w"])
def test_an_update_with_a_misfit_changes_nothing(value: Any) -> None:
    params = {"w": np.ones(3), "b": np.ones(2)}
    ema = EMA(params, 0.5)
    params["b"] += 1.0
    params["w"] = value
    with pytest.raises((ValueError, TypeError), match="parameter 'w'"):
        ema.update()
    assert ema.count == 0
    assert ema.params["b"].tolist() == [1.0, 1.0]


def test_updates_read_the_arrays_that_the_tree_holds() -> None:
    params = {"w": np.zeros(2)}
    ema = EMA(params, 0.5)
    params["w"] = np.ones(2)
    ema.update()
    assert ema.params["w"].tolist() == [0.5, 0.5]


def test_a_failed_exchange_back_can_be_repeated_after_a_repair() -> None:
    params, opt, ema = trained()
    before = everything(opt, ema)
    block = ema.swapped()
    block.__enter__()
    params["w"].setflags(write=False)
    inside = everything(opt, ema)
    with pytest.raises(ValueError, match="'w' is read-only"):
        block.__exit__()
    assert everything(opt, ema) == inside
    params["w"].setflags(write=True)
    block.__exit__()
    assert everything(opt, ema) == before
    block.__exit__()  # a no-op
    assert everything(opt, ema) == before


def test_parameters_are_not_trained_while_they_are_averaged() -> None:
    told: list[str] = []

    def decay(_: int) -> float:
        for act in (lambda: opt.step(np.ones(2)), opt.state_dict):
            with pytest.raises(thalweg.BusyError, match="already in use") as error:
                act()
            told.append(str(error.value))
        return 0.5

    opt = thalweg.AdamW(np.ones(2))
    ema = EMA(opt, decay)
    ema.update()
    assert (len(told), ema.count, opt.step_count) == (2, 1, 0)
    opt.step(np.ones(2))


def test_parameters_are_not_averaged_while_they_are_trained() -> None:
    def lr(_: int) -> float:
        with pytest.raises(thalweg.BusyError, match="already in use"):
            ema.update()
        return 0.1

    opt = thalweg.AdamW(np.ones(2), lr=lr)
    ema = EMA(opt, 0.5)
    opt.step(np.ones(2))
    assert (ema.count, opt.step_count) == (0, 1)


def test_a_collected_context_manager_exchanges_back() -> None:
    params = {"w": np.ones(3)}
    opt = thalweg.SGD(params, 0.5)
    ema = EMA(opt, 0.5)
    opt.step({"w": np.ones(3)})
    ema.update()
    manager = ema.swapped()
    manager.__enter__()
    assert params["w"].tolist() == [0.75] * 3
    del manager
    assert params["w"].tolist() == [0.5] * 3
    assert opt.step({"w": np.ones(3)}).step == 2


def test_a_failed_exchange_back_is_reported_and_the_exception_propagates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = {"w": np.ones(3)}
    opt = thalweg.SGD(params, 0.5)
    ema = EMA(opt, 0.5)
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: told.append(report.exc_value))

    def enter(manager: Any) -> None:
        manager.__enter__()
        params["w"].setflags(write=False)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        enter(ema.swapped())
    assert ["read-only" in str(error) for error in told] == [True]

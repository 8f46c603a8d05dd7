"""Sums and averages (mirrors) follow an optimizer, and are saved and loaded with it."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from collections import UserDict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from arrays import assert_same_bits
from conftest import attached
from processes import in_fork, needs_fork
from thalweg import EMA, Accumulator, AdamW

if TYPE_CHECKING:
    from collections.abc import Callable

    Mirror = Accumulator | EMA
    Make = Callable[[Any], Mirror]


def rising(update: int) -> float:
    return min(0.999, (1 + update) / (10 + update))


KINDS: dict[str, Make] = {
    "Accumulator": Accumulator,
    "EMA": lambda of: EMA(of, 0.9),
    "corrected EMA": lambda of: EMA(of, 0.9, bias_correction=True),
    "scheduled EMA": lambda of: EMA(of, rising),
}
EVERY_KIND = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
AVERAGES = pytest.mark.parametrize("make", [*KINDS.values()][1:], ids=[*KINDS][1:])


def model() -> dict[str, Any]:
    return {"body": [np.ones((2, 3), np.float32), np.ones(3)], "head": {"w": np.ones((3, 2)).T}}


def gradients(params: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    flat = thalweg.tree.flatten(params)
    return thalweg.tree.unflatten(
        {n: rng.standard_normal(p.shape) for n, p in flat.items()}, params
    )


def advance(mirror: Mirror, params: Any, seed: int) -> None:
    if isinstance(mirror, EMA):
        mirror.update()
    else:
        mirror.add(gradients(params, seed), weight=1.0 + seed)


def run(opt: thalweg.Optimizer, mirror: Mirror, steps: range) -> None:
    """Take steps, each followed by two additions or updates; sums are applied every third step."""
    for step in steps:
        opt.step(gradients(opt._held.tree, step))
        for half in (0, 1):
            advance(mirror, opt._held.tree, 2 * step + half)
        if isinstance(mirror, Accumulator) and step % 3 == 2:
            opt.step(mirror.grads, scale=1 / mirror.weight)
            mirror.clear()


def contents(mirror: Mirror) -> tuple[Any, ...]:
    saved = mirror.state_dict()
    leaves = {
        name: (leaf["step"], leaf[mirror.array_key].dtype.str, leaf[mirror.array_key].tobytes())
        for name, leaf in saved.pop("state").items()
    }
    return leaves, repr(saved), mirror.count


def assert_same_run(
    one: tuple[thalweg.Optimizer, Mirror], other: tuple[thalweg.Optimizer, Mirror]
) -> None:
    assert contents(one[1]) == contents(other[1])
    for name, p in one[0].params.items():
        assert_same_bits(p, other[0].params[name])
        assert one[0].state[name]["step"] == other[0].state[name]["step"]


def loaded(opt: thalweg.Optimizer, make: Make) -> tuple[thalweg.Optimizer, Mirror]:
    fresh = AdamW(copy.deepcopy(opt._held.tree))
    mirror = make(fresh)
    report = fresh.load_state_dict(opt.state_dict())
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), ())
    return fresh, mirror


def pickled(opt: thalweg.Optimizer, _: Make) -> tuple[thalweg.Optimizer, Mirror]:
    other = pickle.loads(pickle.dumps(opt))  # noqa: S301 - our own bytes
    return other, *attached(other).values()


def mirror_pickled(opt: thalweg.Optimizer, _: Make) -> tuple[thalweg.Optimizer, Mirror]:
    (mirror,) = attached(opt).values()
    other = pickle.loads(pickle.dumps(mirror))  # noqa: S301 - our own bytes
    return other._mirrored.owner.optimizer, other


def deep_copied(opt: thalweg.Optimizer, _: Make) -> tuple[thalweg.Optimizer, Mirror]:
    other = copy.deepcopy(opt)
    return other, *attached(other).values()


@pytest.mark.parametrize("transport", [loaded, pickled, mirror_pickled, deep_copied])
@EVERY_KIND
def test_a_run_resumes_to_the_same_bits(
    make: Make, transport: Callable[[Any, Make], tuple[thalweg.Optimizer, Mirror]]
) -> None:
    opt = AdamW(model())
    mirror = make(opt)
    run(opt, mirror, range(4))
    other = transport(opt, make)
    assert other[1] is not mirror
    assert_same_run((opt, mirror), other)
    for one in ((opt, mirror), other):
        run(*one, range(4, 8))
    assert_same_run((opt, mirror), other)


@pytest.mark.parametrize("transport", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])  # noqa: S301 - our own bytes
@EVERY_KIND
def test_a_copy_of_a_mirror_of_a_tree_continues(
    make: Make, transport: Callable[[Any], Any]
) -> None:
    params = model()
    one = make(params)
    advance(one, params, 0)
    both, other = transport((params, one))
    for mirror, tree in ((one, params), (other, both)):
        for array in thalweg.tree.flatten(tree).values():
            array[...] = 2.0
        advance(mirror, tree, 1)
        if isinstance(mirror, Accumulator):
            mirror.add({"body": None, "head": gradients(tree, 2)["head"]})
    assert contents(one) == contents(other)


@EVERY_KIND
def test_a_mirror_of_a_tree_has_its_own_state_dict(make: Make) -> None:
    params = model()
    one, other = make(params), make(copy.deepcopy(params))
    advance(one, params, 0)
    other.load_state_dict(one.state_dict())
    assert contents(one) == contents(other)
    name, leaf = next(iter(one.state_dict(copy=False)["state"].items()))
    assert leaf[one.array_key] is one._mirrored.arrays[name]
    assert one.state_dict()["state"][name][one.array_key] is not one._mirrored.arrays[name]


@EVERY_KIND
def test_a_copy_with_frozen_parameters_accepts_gradients_of_all(make: Make) -> None:
    opt = AdamW(model(), groups=[{"match": "body.*", "frozen": True}])
    mirror = make(opt)
    run(opt, mirror, range(1))
    other, copied = deep_copied(opt, make)
    for one in ((opt, mirror), (other, copied)):
        run(*one, range(1, 3))
    assert contents(mirror) == contents(copied)


@EVERY_KIND
def test_a_copy_of_a_mirror_without_arrays_follows_thawed_parameters(make: Make) -> None:
    opt = AdamW(model(), groups=[{"match": "*", "frozen": True}])
    mirror = make(opt)
    other, copied = deep_copied(opt, make)
    for one in ((opt, mirror), (other, copied)):
        one[0].groups[1].frozen = False
        run(*one, range(2))
    assert contents(mirror) == contents(copied)


def test_a_shallow_copy_has_no_mirrors_and_leaves_those_of_the_original() -> None:
    opt = AdamW(model())
    ema = EMA(opt, 0.9)
    other = copy.copy(opt)
    assert list(opt.state_dict()["attached"]) == ["ema"]
    assert list(other.state_dict()["attached"]) == []
    EMA(other, 0.5)
    assert opt._held.attached == {"ema": ema._mirrored}


def test_a_later_mirror_of_the_same_name_replaces_the_earlier() -> None:
    opt = AdamW(model())
    EMA(opt, 0.9)
    slow, other = EMA(opt, 0.999), EMA(opt, 0.5, name="fast")
    assert opt._held.attached == {"ema": slow._mirrored, "fast": other._mirrored}
    with pytest.raises(TypeError, match="name must be a string, got 3"):
        EMA(opt, 0.9, name=3)


def test_an_average_starts_at_the_thawed_value_and_keeps_frozen_ones() -> None:
    params = model()
    opt = AdamW(params, lr=0.1, groups=[{"match": "head.w", "frozen": True}])
    ema = EMA(opt, 0.5)
    assert list(ema.state_dict()["state"]) == ["body.0", "body.1"]
    assert ema.params["head"]["w"] is params["head"]["w"]
    run(opt, ema, range(1))
    at_the_thaw = params["head"]["w"].copy()
    opt.groups[1].frozen = False
    opt.step(gradients(params, 1))
    assert_same_bits(ema.params["head"]["w"], at_the_thaw)
    ema.update()
    assert_same_bits(
        ema.params["head"]["w"], at_the_thaw + 0.5 * (params["head"]["w"] - at_the_thaw)
    )
    state = ema.state_dict()["state"]
    assert [state[name]["step"] for name in opt.params] == [3, 3, 1]

    held = ema.params["head"]["w"]
    opt.groups[1].frozen = True
    ema.update()
    assert ema.params["head"]["w"] is held
    assert ema.state_dict()["state"]["head.w"]["step"] == 2
    with ema.swapped():
        assert params["head"]["w"] is not held
    opt.groups[1].frozen = False
    ema.update()
    assert ema.params["head"]["w"] is held


def test_a_sum_is_of_the_parameters_that_train_now() -> None:
    params = model()
    opt = AdamW(params, groups=[{"match": "head.w", "frozen": True}])
    acc = Accumulator(opt)
    acc.add({**gradients(params, 0), "head": {"w": "ignored"}})
    assert acc.grads["head.w"] is None
    opt.groups[1].frozen = False
    acc.add(gradients(params, 1))
    assert_same_bits(acc.grads["head.w"], gradients(params, 1)["head"]["w"])
    opt.groups[1].frozen = True
    acc.add({**gradients(params, 2), "head": None})
    opt.step(acc.grads, scale=1 / acc.weight)
    assert (acc.count, acc.weight) == (3, 3.0)


@EVERY_KIND
def test_a_mirror_includes_added_parameters_and_follows_rebound_ones(make: Make) -> None:
    params = model()
    opt = AdamW(params)
    mirror = make(opt)
    run(opt, mirror, range(2))
    held = dict(mirror._mirrored.arrays)
    params["new"] = np.full(3, 2.0)
    opt.extend(params)
    assert list(mirror._mirrored.arrays) == list(opt.params)
    assert all(mirror._mirrored.arrays[name] is array for name, array in held.items())
    other = copy.deepcopy(params)
    opt.rebind(other)
    run(opt, mirror, range(2, 3))
    step = mirror.state_dict()["state"]["new"]["step"]
    assert step == 0 if isinstance(mirror, Accumulator) else step == 2  # cleared
    if isinstance(mirror, EMA):
        assert not np.array_equal(mirror.params["new"], np.full(3, 2.0))
        with mirror.swapped() as tree:
            assert tree is other


@EVERY_KIND
def test_editing_hyperparameters_does_not_rebuild_a_mirror(make: Make) -> None:
    opt = AdamW(model())
    mirror = make(opt)
    updater, revision = mirror._mirrored.updater, mirror._mirrored.revision
    for lr in (0.1, 0.2):
        opt.lr = lr
    assert (mirror._mirrored.updater, mirror._mirrored.revision) == (updater, revision)


def without(name: str) -> Callable[[Any], None]:
    return lambda saved: saved["state"].pop(name)


def setting(key: str, value: Any) -> Callable[[Any], None]:
    return lambda saved: saved.update({key: value})


def extra(saved: Any) -> None:
    saved["state"]["tail"] = saved["state"]["body.1"]


def of_another_shape(saved: Any) -> None:
    for leaf in (saved["state"]["body.0"], saved["state"]["body.1"]):
        key = "sum" if "sum" in leaf else "average"
        leaf[key] = leaf[key][:1]


def of_another_dtype(saved: Any) -> None:
    leaf = saved["state"]["body.1"]
    key = "sum" if "sum" in leaf else "average"
    leaf[key] = leaf[key].astype(np.float32)


def negative_step(saved: Any) -> None:
    saved["state"]["body.1"]["step"] = -1


def more_state(saved: Any) -> None:
    saved["state"]["body.1"]["exp_avg"] = np.ones(3)


MISFITS: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "missing": (without("body.1"), ["missing: 'body.1'"]),
    "unexpected": (extra, ["unexpected: 'tail'"]),
    "shapes": (
        of_another_shape,
        [
            r"of 'body\.0': saved float32 \(1, 3\), here",
            r"of 'body\.1': saved float64 \(1,\), here",
        ],
    ),
    "dtype": (of_another_dtype, [r"of 'body\.1': saved float32 \(3,\), here float64 \(3,\)"]),
    "step": (negative_step, [r"'body\.1': step must be a whole number .*, got -1"]),
    "state": (more_state, [r"'body\.1': saved \[.*'exp_avg'.*\], here \['(sum|average)'\]"]),
    "kind": (setting("kind", "momentum"), ["not the state of an (Accumulator|EMA)"]),
}
ONLY = {
    "bias_correction": ("EMA", setting("bias_correction", True), "saved True, here False", False),
    "decay": ("EMA", setting("decay", 2.0), "decay must be", True),
    "weight": (
        "Accumulator",
        setting("weight", float("inf")),
        "weight must be finite and at least 0, got inf",
        False,
    ),
    "a callable": (
        "EMA",
        setting("decay", {"callable": "m.f"}),
        "the callable m.f, here 0.9",
        True,
    ),
}


@pytest.mark.parametrize(("damage", "messages"), MISFITS.values(), ids=MISFITS)
@EVERY_KIND
def test_saved_mirrors_that_do_not_fit_are_refused_and_every_misfit_listed(
    make: Make, damage: Callable[[Any], Any], messages: list[str]
) -> None:
    opt = AdamW(model())
    mirror = make(opt)
    run(opt, mirror, range(2))
    saved = opt.state_dict()
    (name,) = saved["attached"]
    run(opt, mirror, range(2, 4))
    damage(saved["attached"][name])
    before = contents(mirror), opt.step_count
    for load in (
        lambda: opt.load_state_dict(saved),
        lambda: mirror.load_state_dict(saved["attached"][name]),
    ):
        with pytest.raises(ValueError, match=r"does not fit; nothing was loaded:\n- ") as told:
            load()
        for message in messages:
            told.match(message)
        assert (contents(mirror), opt.step_count) == before


@pytest.mark.parametrize(("kind", "damage", "message", "rest_fits"), ONLY.values(), ids=ONLY)
def test_values_that_only_one_kind_has_are_compared_too(
    kind: str, damage: Callable[[Any], Any], message: str, *, rest_fits: bool
) -> None:
    opt = AdamW(model())
    mirror = KINDS[kind](opt)
    run(opt, mirror, range(2))
    saved, then = opt.state_dict(), contents(mirror)
    (name,) = saved["attached"]
    damage(saved["attached"][name])
    opt.step(gradients(opt._held.tree, 9))
    advance(mirror, opt._held.tree, 9)
    before = contents(mirror)
    with pytest.raises(ValueError, match=message):
        opt.load_state_dict(saved)
    assert contents(mirror) == before
    report = opt.load_state_dict(saved, strict=False)
    assert message in str(report.mismatched)
    assert contents(mirror) == (then if rest_fits else before)


@EVERY_KIND
def test_without_strict_the_rest_is_loaded(make: Make) -> None:
    opt = AdamW(model())
    mirror = make(opt)
    run(opt, mirror, range(2))
    saved = opt.state_dict()
    (name,) = saved["attached"]
    without("body.1")(saved["attached"][name])
    other = AdamW(model())
    fresh = make(other)
    report = other.load_state_dict(saved, strict=False)
    assert report.mismatched == (f"{name}: missing: 'body.1'",)
    loaded, expected = contents(fresh)[0], contents(mirror)[0]
    for leaf in ("body.0", "head.w"):
        assert loaded[leaf] == expected[leaf]
    assert loaded["body.1"][0] == 0
    assert (fresh.count, other.step_count) == (mirror.count, opt.step_count)


def test_missing_and_unexpected_mirrors_are_named() -> None:
    with_ema, without_any = AdamW(model()), AdamW(model())
    EMA(with_ema, 0.9)
    with pytest.raises(
        ValueError, match="unexpected: 'ema', an accumulator or average that is not attached here"
    ):
        without_any.load_state_dict(with_ema.state_dict())
    with pytest.raises(ValueError, match="missing: 'ema'"):
        with_ema.load_state_dict(without_any.state_dict())
    assert without_any.load_state_dict(with_ema.state_dict(), strict=False).unexpected == ("ema",)
    assert with_ema.load_state_dict(without_any.state_dict(), strict=False).missing == ("ema",)


@pytest.mark.parametrize("hyperparameters", ["saved", "current"])
def test_the_decay_is_the_saved_or_the_current_one_as_asked(hyperparameters: Any) -> None:
    opt, other = AdamW(model()), AdamW(model())
    EMA(opt, 0.9)
    ema = EMA(other, 0.5)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        report = other.load_state_dict(opt.state_dict(), hyperparameters=hyperparameters)
    counts = hyperparameters == "saved"
    assert report.changed == ({"ema.decay": (0.5, 0.9)} if counts else {})
    assert ema.decay == (0.9 if counts else 0.5)
    assert len(warned) == counts


def test_a_callable_decay_is_saved_by_name_and_kept_when_loading() -> None:
    opt, other = AdamW(model()), AdamW(model())
    EMA(opt, rising)
    ema = EMA(other, rising)
    assert opt.state_dict()["attached"]["ema"]["decay"] == {"callable": f"{__name__}.rising"}
    other.load_state_dict(opt.state_dict())
    assert ema.decay is rising
    plain = AdamW(model())
    EMA(plain, 0.9)
    plain.load_state_dict(opt.state_dict(), hyperparameters="current")


@EVERY_KIND
def test_an_array_that_cannot_be_written_is_refused_with_nothing_loaded(make: Make) -> None:
    opt = AdamW(model())
    mirror = make(opt)
    run(opt, mirror, range(1))
    saved = opt.state_dict()
    run(opt, mirror, range(1, 2))
    before = contents(mirror), opt.step_count, opt.state["body.0"]["exp_avg"].tobytes()
    mirror._mirrored.arrays["body.1"].setflags(write=False)
    with pytest.raises(ValueError, match=r"the (sum|average) of 'body\.1' has changed.*read-only"):
        opt.load_state_dict(saved)
    assert (contents(mirror), opt.step_count, opt.state["body.0"]["exp_avg"].tobytes()) == before


@EVERY_KIND
def test_another_thread_in_the_middle_of_a_call_gets_busy_error(make: Make) -> None:
    """A schedule or a mapping runs Python code, and so other threads, in the middle of a call."""
    params = {"w": np.ones(3)}
    told: list[type[BaseException] | None] = []

    def elsewhere(act: Callable[[], Any]) -> None:
        def attempt() -> None:
            try:
                act()
            except Exception as error:  # noqa: BLE001 - which one is the question
                told.append(type(error))
            else:
                told.append(None)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join(30)

    def meddling(_: int) -> float:
        elsewhere(lambda: advance(mirror, params, 1))
        elsewhere(mirror.state_dict)
        return 0.5

    if make is Accumulator:
        mirror: Mirror = Accumulator(params)

        class Meddling(UserDict):
            def __getitem__(self, key: str) -> Any:
                meddling(0)
                return super().__getitem__(key)

        mirror.add(Meddling(w=np.ones(3)))
    else:
        mirror = EMA(params, meddling)
        mirror.update()
    assert set(told) == {thalweg.BusyError}
    assert mirror.count == 1


@needs_fork
@EVERY_KIND
def test_a_forked_child_continues_independently(make: Make) -> None:
    opt = AdamW({"w": np.ones(300_000, np.float32)})
    mirror = make(opt)
    run(opt, mirror, range(1))
    before = contents(mirror)

    def work() -> str:
        assert contents(mirror) == before
        run(opt, mirror, range(1, 2))
        return str(hash(contents(mirror)[0]["w"]))

    said = in_fork(work)
    assert contents(mirror) == before
    run(opt, mirror, range(1, 2))
    assert said == str(hash(contents(mirror)[0]["w"]))

"""Arrays and containers that change after construction, before a step or during one."""

from __future__ import annotations

import contextlib
import gc
import warnings
import weakref
from collections import UserDict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from specimens import Array, numbers, picture
from thalweg import AdamW, BusyError

if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[[Any, Any], object]

SHAPES = {"w": (2, 3), "list.0": (3,), "list.1": (3,), "map.w": (3,), "deep.0.0.w": (3,)}


def model() -> dict[str, Any]:
    w, first, second, mapped, deep = (
        numbers(shape, np.float32, seed) for seed, shape in enumerate(SHAPES.values())
    )
    return {
        "w": w,
        "list": [first, second],
        "map": UserDict(w=mapped),
        "deep": [[{"w": deep}]],
        "none": None,
        "empty": {},
    }


def gradients() -> dict[str, Array]:
    return {name: numbers(shape, np.float32, 9) for name, shape in SHAPES.items()}


class Run:
    """An optimizer after one step; the next step calls `due`, if set, through its schedule."""

    def __init__(self) -> None:
        self.params = model()
        self.due: Callable[[], object] | None = None
        self.opt = AdamW(self.params, lr=Schedule(self))
        self.opt.step(gradients())
        self.exp_avg_sq = self.opt.state["w"]["exp_avg_sq"]

    def change(self, change: Change) -> None:
        change(self.params, self.exp_avg_sq)

    def step(self, grads: Any = None) -> list[Any]:
        return picture(self.opt.step(gradients() if grads is None else grads), self.opt)


class Schedule:
    def __init__(self, run: Run) -> None:
        self.run = run

    def __call__(self, step: int) -> float:
        due, self.run.due = self.run.due, None
        if due is not None:
            due()
        return 0.1 / step

    def __repr__(self) -> str:
        return "Schedule"


def set_attribute(name: str, value: Any, key: str = "w") -> Change:
    """Programs do this, although NumPy advises against it."""

    def change(params: Any, _: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            setattr(params[key], name, value)

    return change


def state(change: Callable[[Array], object]) -> Change:
    return lambda _, exp_avg_sq: change(exp_avg_sq)


def reshape(*shape: int) -> Callable[[Array], None]:
    return lambda array: set_attribute("shape", shape)({"w": array}, None)


def retype(array: Array) -> None:
    set_attribute("dtype", np.int32)({"w": array}, None)


REBIND = ("opt.rebind(params)",)
CHANGED = ("parameter 'w' has changed", "restore it", *REBIND)
STATE_CHANGED = ("the state of 'w' has changed", "restore it")
REFUSED: dict[str, tuple[Change, tuple[str, ...]]] = {
    "larger": (lambda p, _: p["w"].resize(1000, refcheck=False), (*CHANGED, "shape")),
    "smaller": (lambda p, _: p["w"].resize(2, refcheck=False), (*CHANGED, "shape")),
    "emptied": (lambda p, _: p["w"].resize(0, refcheck=False), (*CHANGED, "shape")),
    "resized to another shape": (
        lambda p, _: p["w"].resize((3, 2), refcheck=False),
        (*CHANGED, "shape"),
    ),
    "reshaped": (set_attribute("shape", (3, 2)), (*CHANGED, "shape")),
    "flattened": (set_attribute("shape", (6,)), (*CHANGED, "shape")),
    "an axis more": (set_attribute("shape", (2, 3, 1)), (*CHANGED, "shape")),
    "integers": (set_attribute("dtype", np.int32), (*CHANGED, "dtype")),
    "big-endian": (set_attribute("dtype", ">f4"), (*CHANGED, "dtype")),
    "other strides": (set_attribute("strides", (4, 8)), CHANGED),
    "overlapping strides": (set_attribute("strides", (4, 4)), CHANGED),
    "read-only": (lambda p, _: p["w"].setflags(write=False), (*CHANGED, "read-only")),
    "state, larger": (
        state(lambda a: a.resize(1000, refcheck=False)),
        (*STATE_CHANGED, "shape"),
    ),
    "state, smaller": (state(lambda a: a.resize(2, refcheck=False)), (*STATE_CHANGED, "shape")),
    "state, integers": (state(retype), (*STATE_CHANGED, "dtype")),
    "state, read-only": (
        state(lambda a: a.setflags(write=False)),
        (*STATE_CHANGED, "read-only"),
    ),
    "leaf replaced": (lambda p, _: p.update(w=p["w"] * 2), ("'w'", *REBIND)),
    "leaf replaced by a view": (lambda p, _: p.update(w=p["w"][:]), ("'w'", *REBIND)),
    "leaf replaced by None": (lambda p, _: p.update(w=None), ("'w'", *REBIND)),
    "leaf deleted": (lambda p, _: p.pop("w"), ("'w'", *REBIND)),
    "two leaves exchanged": (
        lambda p, _: p.update(list=p["list"][::-1]),
        ("'list", *REBIND),
    ),
    "item replaced": (lambda p, _: p["list"].__setitem__(1, p["w"][0]), ("'list.1'", *REBIND)),
    "items exchanged": (lambda p, _: p["list"].reverse(), ("'list.0'", *REBIND)),
    "list shortened": (lambda p, _: p["list"].pop(), ("'list.1'", *REBIND)),
    "list shifted": (lambda p, _: p["list"].insert(0, p["w"]), ("'list.0'", *REBIND)),
    "list cleared": (lambda p, _: p["list"].clear(), ("'list.0'", *REBIND)),
    "list replaced by its copy": (lambda p, _: p.update(list=[*p["list"]]), ("'list'", *REBIND)),
    "mapping's leaf replaced": (lambda p, _: p["map"].update(w=p["w"][0]), ("'map.w'", *REBIND)),
    "mapping's leaf deleted": (lambda p, _: p["map"].pop("w"), ("'map.w'", *REBIND)),
    "mapping replaced": (lambda p, _: p.update(map=UserDict(p["map"])), ("'map'", *REBIND)),
    "deep leaf replaced": (
        lambda p, _: p["deep"][0][0].update(w=numbers(3, np.float32)),
        ("'deep.0.0.w'", *REBIND),
    ),
    "deep container replaced": (
        lambda p, _: p["deep"].__setitem__(0, [*p["deep"][0]]),
        ("'deep.0'", *REBIND),
    ),
    "all cleared": (lambda p, _: p.clear(), ("'w'", *REBIND)),
    "leaf for None": (lambda p, _: p.update(none=np.ones(3)), ("'none'", *REBIND)),
    "empty container replaced": (
        lambda p, _: p.update(empty={"b": np.ones(3)}),
        ("'empty'", *REBIND),
    ),
}


@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED)
def test_a_step_refuses_changed_parameters_and_changes_nothing(
    change: Change, says: tuple[str, ...], when: str
) -> None:
    run, twin, changed = Run(), Run(), Run()
    changed.change(change)
    if when == "before":
        run.change(change)
    else:
        run.due = lambda: run.change(change)
    with pytest.raises(ValueError, match=r"restore it|rebind") as told:
        run.opt.step(gradients())
    assert all(part in str(told.value) for part in says)
    assert picture(run.opt, run.exp_avg_sq) == picture(changed.opt, changed.exp_avg_sq)
    if "state" in says[0]:
        return
    # The remedy in the message.
    run.opt.rebind(params := model())
    for name, array in twin.opt.params.items():
        run.opt.params[name][...] = array
    assert params["w"] is run.opt.params["w"]
    assert run.step() == twin.step()


def thaw(params: Any, _: Any) -> None:
    params["w"].setflags(write=True)


RESTORED: dict[str, tuple[Change, Change]] = {
    "read-only": (lambda p, _: p["w"].setflags(write=False), thaw),
    "reshaped": (set_attribute("shape", (3, 2)), set_attribute("shape", (2, 3))),
    "integers": (set_attribute("dtype", "i4"), set_attribute("dtype", "f4")),
    "other strides": (set_attribute("strides", (4, 8)), set_attribute("strides", (12, 4))),
    "state, read-only": (
        state(lambda a: a.setflags(write=False)),
        state(lambda a: a.setflags(write=True)),
    ),
    "state, reshaped": (state(reshape(6)), state(reshape(2, 3))),
    "items exchanged": (lambda p, _: p["list"].reverse(), lambda p, _: p["list"].reverse()),
    "leaf replaced": (
        lambda p, _: p.update(w=(p["w"], p["w"].copy())),
        lambda p, _: p.update(w=p["w"][0]),
    ),
}


@pytest.mark.parametrize(("change", "undo"), RESTORED.values(), ids=RESTORED)
def test_restored_parameters_train_again(change: Change, undo: Change) -> None:
    run, twin = Run(), Run()
    run.change(change)
    with pytest.raises(ValueError, match=r"restore it|rebind"):
        run.step()
    run.change(undo)
    assert run.step() == twin.step()


ACCEPTED: dict[str, Change] = {
    "other values": lambda p, _: p["w"].__imul__(2),
    "bytes swapped in place": lambda p, _: p["w"].byteswap(inplace=True),
    "read-only and back": lambda p, _: (p["w"].setflags(write=False), thaw(p, _)),
    "appended": lambda p, _: p["list"].append(np.ones(3)),
    "key added": lambda p, _: p.update(new=np.ones(3)),
    "keys in another order": lambda p, _: p.update(w=p.pop("w")),
    "None appended": lambda p, _: p["list"].append(None),
    "state of other values": lambda _, exp_avg_sq: exp_avg_sq.fill(0.5),
}


@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("change", ACCEPTED.values(), ids=ACCEPTED)
def test_new_values_and_added_leaves_are_accepted(change: Change, when: str) -> None:
    run, twin = Run(), Run()
    twin.change(change)
    if when == "before":
        run.change(change)
    else:
        run.due = lambda: run.change(change)
    assert run.step() == twin.step()


def test_the_optimizer_keeps_its_arrays_alive() -> None:
    run, twin = Run(), Run()
    run.params = None
    gc.collect(0)
    assert run.step() == twin.step()
    alive = weakref.ref(run.opt.params["w"])
    del run.opt
    gc.collect()
    assert alive() is None


GRADIENT_CHANGES: dict[str, tuple[Callable[[Any], object], str | None]] = {
    "resized": (
        lambda g: g["w"].resize(10, refcheck=False),
        r"gradient of 'w' must have the shape .*\(2, 3\), got \(10,\)",
    ),
    "freed": (lambda g: g.pop("w"), r"missing: 'w'.*partial=True"),
    "all freed": (lambda g: g.clear(), r"missing: .*partial=True"),
    "replaced by another shape": (
        lambda g: g.update(w=np.ones(3)),
        r"gradient of 'w' must have the shape .*\(2, 3\), got \(3,\)",
    ),
    "one too many": (lambda g: g.update(extra=np.ones(3)), "unexpected: 'extra'"),
    "None for all": (lambda g: g.update(dict.fromkeys(g)), "at least one"),
    "read-only": (lambda g: g["w"].setflags(write=False), None),
    "other values": (lambda g: g["w"].fill(0.25), None),
    "replaced": (lambda g: g.update(w=np.full((2, 3), 0.25)), None),
    "skipped": (lambda g: g.update(w=None), None),
}


@pytest.mark.parametrize(("change", "message"), GRADIENT_CHANGES.values(), ids=GRADIENT_CHANGES)
def test_gradients_are_read_after_the_schedules(
    change: Callable[[Any], object], message: str | None
) -> None:
    run, twin = Run(), Run()
    grads = gradients()
    run.due = lambda: change(grads)
    if message is None:
        change(other := gradients())
        assert run.step(grads) == twin.step(other)
        return
    before = picture(run.opt)
    with pytest.raises(ValueError, match=message):
        run.step(grads)
    assert picture(run.opt) == before
    assert run.step() == twin.step()


def test_a_schedule_cannot_pass_a_parameter_as_gradient() -> None:
    run, twin = Run(), Run()
    grads = gradients()
    run.due = lambda: grads.update(w=run.params["w"][::-1])
    before = picture(run.opt)
    with pytest.raises(ValueError, match=r"parameter 'w' and the gradient of 'w' share memory"):
        run.step(grads)
    assert picture(run.opt) == before
    assert run.step() == twin.step()


class Meddler(UserDict):
    """Gradients that call `meddle` whenever one of them is read."""

    def __init__(self, grads: dict[str, Array], meddle: Callable[[Any], object]) -> None:
        super().__init__(grads)
        self.meddle = meddle

    def __getitem__(self, key: str) -> Any:
        gradient = super().__getitem__(key)
        self.meddle(self)
        return gradient


MEDDLING: dict[str, Callable[[Run, Meddler], object]] = {
    "resizes the parameter": lambda run, _: run.params["w"].resize(1000, refcheck=False),
    "freezes the parameter": lambda run, _: run.params["w"].setflags(write=False),
    "resizes the state": lambda run, _: run.exp_avg_sq.resize(1000, refcheck=False),
    "steps": lambda run, _: run.opt.step(gradients()),
    "raises": lambda *_: 1 // 0,
    "forgets its other gradients": lambda _, grads: grads.data.clear(),
    "resizes its gradients": lambda _, grads: [
        g.resize(1000, refcheck=False) for g in grads.data.values()
    ],
}


@pytest.mark.parametrize("meddle", MEDDLING.values(), ids=MEDDLING)
def test_mappings_that_meddle_while_they_are_read_are_refused(
    meddle: Callable[[Run, Meddler], object],
) -> None:
    run, changed = Run(), Run()
    errors = (ValueError, KeyError, BusyError, ZeroDivisionError)
    with pytest.raises(errors):
        run.step(Meddler(gradients(), lambda grads: meddle(run, grads)))
    with contextlib.suppress(*errors):
        if meddle is not MEDDLING["steps"]:
            meddle(changed, Meddler({}, lambda _: None))
    assert picture(run.opt, run.exp_avg_sq) == picture(changed.opt, changed.exp_avg_sq)


class Key:
    """A key that adds items to its mapping when its name is read."""

    def __init__(self, mapping: dict[Any, Any]) -> None:
        self.mapping = mapping

    def __index__(self) -> int:
        return 0

    def __str__(self) -> str:
        self.mapping.update({f"new {i}": np.ones(3) for i in range(100)})
        return "w"


def test_a_mapping_is_read_as_it_was_when_it_was_reached() -> None:
    run, twin = Run(), Run()
    grads = gradients()
    grads[Key(grads)] = grads.pop("w")
    assert run.step(grads) == twin.step()


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda _: None, ()),
        (lambda grads: grads["w"].fill(np.nan), FloatingPointError),
        (lambda grads: grads.update(extra=np.ones(3)), ValueError),
        (lambda grads: grads.update(w=np.ones(3)), ValueError),
    ],
)
def test_a_step_keeps_no_reference_to_gradients(spoil: Callable[[Any], object], error: Any) -> None:
    run = Run()
    grads = gradients()
    spoil(grads)
    alive = [weakref.ref(g) for g in grads.values()]
    with pytest.raises(error) if error else contextlib.nullcontext():
        run.opt.step(grads)
    del grads
    gc.collect(0)
    assert not any(ref() is not None for ref in alive)


def test_gradients_may_be_temporary_arrays() -> None:
    run, twin = Run(), Run()
    assert run.step({name: g * 2 for name, g in gradients().items()}) == twin.step(
        {name: g * 2 for name, g in gradients().items()}
    )


def test_no_code_of_a_gradient_runs_between_the_checks() -> None:
    params = {"a": numbers(3, np.float32), "b": numbers(3, np.float32, 1)}

    class Freezing(np.ndarray):
        @property
        def __class__(self) -> Any:
            params["a"].setflags(write=False)
            return Freezing

    one, other = AdamW(params), AdamW({name: p.copy() for name, p in params.items()})
    g = numbers(3, np.float32, 2)
    one.step({"a": g, "b": g.view(Freezing)})
    other.step({"a": g, "b": g})
    assert params["a"].flags.writeable
    assert picture(one) == picture(other)

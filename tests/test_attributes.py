"""An assignment to an attribute takes effect, or is refused with advice; none is ignored."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import weakref
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pytest

import thalweg
from conftest import unchanged
from thalweg import EMA, SGD, SGDW, Accumulator, Adam, AdamW, CheckpointManager, schedule

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "AdamW": lambda: AdamW({"w": np.ones(3)}, lr=0.1),
    "Adam": lambda: Adam({"w": np.ones(3)}, lr=0.1),
    "SGDW": lambda: SGDW({"w": np.ones(3)}, lr=0.1),
    "SGD": lambda: SGD({"w": np.ones(3)}, lr=0.1),
}


def objects(directory: Path) -> dict[str, Any]:
    """One object of every kind that users get."""
    opt = AdamW({"w": np.ones(3)}, lr=0.1)
    report = opt.step({"w": np.ones(3)}, stats=True)
    stats = report.stats
    assert stats is not None
    ema, sums = EMA(opt, decay=0.5), Accumulator(opt)
    path = directory / "run.safetensors"
    opt.save(path)
    cosine = schedule.cosine(total=10)
    return {
        **{name: make() for name, make in OPTIMIZERS.items()},
        "group": opt.groups[0],
        "state of a leaf": opt.state["w"],
        "open step": opt.open_step(),
        "report": report,
        "statistics": stats["w"],
        "EMA": ema,
        "swapped": ema.swapped(),
        "Accumulator": sums,
        "CheckpointManager": CheckpointManager(directory),
        "what loading did": opt.load(path),
        "contents of a file": thalweg.read_checkpoint(path),
        "averaging time": thalweg.averaging_time(0.1, 0.1),
        "no_decay": thalweg.no_decay(),
        "layerwise_lr": thalweg.layerwise_lr("layers.{}", 0.5),
        "schedule": cosine,
        "product": 2.0 * cosine,
        "sum": 2.0 + cosine,
        "then": cosine.then(cosine, at=5),
    }


@pytest.mark.parametrize("key", ["learning_rate", "iterations", "anything", "momentun"])
def test_no_object_accepts_an_unknown_attribute(tmp_path: Path, key: str) -> None:
    for what, given in objects(tmp_path).items():
        with pytest.raises((AttributeError, TypeError), match=key):
            setattr(given, key, 0.1)
        assert not hasattr(given, key), what


ADVICE = [
    # object, attribute, advice
    ("AdamW", "learning_rate", "set opt.lr"),
    ("SGD", "step_size", "set opt.lr"),
    ("AdamW", "weight_decay", "set opt.groups[0].weight_decay"),
    ("AdamW", "beta1", "set opt.groups[0].betas"),
    ("Adam", "epsilon", "set opt.groups[0].eps"),
    ("Adam", "weight_decay", "Adam has 'l2'; set opt.groups[0].l2"),
    ("SGDW", "l2", "SGDW has 'weight_decay'; set opt.groups[0].weight_decay"),
    ("AdamW", "frozen", "set opt.groups[0].frozen"),
    ("AdamW", "maximize", "make another, AdamW(..., maximize=...)"),
    ("AdamW", "amsgrad", "make another, AdamW(..., amsgrad=...)"),
    ("AdamW", "independent", "make another, AdamW(..., independent=...)"),
    ("SGD", "nesterov", "make another, SGD(..., nesterov=...)"),
    ("SGD", "nonfinite", "make another, SGD(..., nonfinite=...)"),
    ("AdamW", "state_dir", "make another, AdamW(..., state_dir=...)"),
    ("AdamW", "nesterov", "it has no such attribute"),
    ("SGD", "amsgrad", "it has no such attribute"),
    ("AdamW", "iterations", "step_count"),
    ("AdamW", "step_count", "opt.reset()"),
    ("AdamW", "step", "step_count"),
    ("AdamW", "params", "opt.rebind(params)"),
    ("AdamW", "param_groups", "opt.groups[0]"),
    ("AdamW", "groups", "opt.groups[0]"),
    ("AdamW", "max_grad_norm", "opt.step(grads, max_norm=...)"),
    ("AdamW", "clipnorm", "opt.step(grads, max_tensor_norm=...)"),
    ("AdamW", "use_ema", "thalweg.EMA(opt"),
    ("AdamW", "gradient_accumulation_steps", "thalweg.Accumulator(opt)"),
    ("AdamW", "wieght_decay", "did you mean 'weight_decay'?"),
    ("AdamW", "rule", "it is read-only"),
    ("AdamW", "load", "it is a method"),
    ("EMA", "momentum", "set ema.decay"),
    ("EMA", "bias_correction", "make another, EMA(..., bias_correction=...)"),
    ("EMA", "name", "make another, EMA(..., name=...)"),
    ("EMA", "params", "it is read-only"),
    ("EMA", "dekay", "did you mean 'decay'?"),
    ("Accumulator", "weight", "add(grads, weight)"),
    ("Accumulator", "params", "make another, Accumulator(..., params=...)"),
    ("CheckpointManager", "keep", "make another, CheckpointManager(..., keep=...)"),
    ("CheckpointManager", "every", "make another, CheckpointManager(..., every=...)"),
    ("CheckpointManager", "max_to_keep", "make another, CheckpointManager(..., keep=...)"),
]


@pytest.mark.parametrize(("what", "key", "advice"), ADVICE)
def test_a_refused_assignment_gives_advice(
    tmp_path: Path, what: str, key: str, advice: str
) -> None:
    given = objects(tmp_path)[what]
    start = f"'{key}' cannot be set on {what}: "
    with pytest.raises(AttributeError, match=f"^{re.escape(start)}.*{re.escape(advice)}"):
        setattr(given, key, 3)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_constructor_arguments_but_lr_cannot_be_assigned(make: Callable[[], Any]) -> None:
    for key in type(make()).__init__.__annotations__:
        if key in ("lr", "return", "unsupported"):
            continue
        opt = make()
        with unchanged(opt), pytest.raises(AttributeError, match=f"'{key}' cannot be set on"):
            setattr(opt, key, 0.5)


@pytest.mark.parametrize(
    ("cls", "given", "options"),
    [
        (AdamW, {}, {"maximize": True}),
        (AdamW, {}, {"nonfinite": "skip"}),
        (AdamW, {"weight_decay": 0.1}, {"independent": True}),
        (SGD, {"lr": 0.1, "momentum": 0.9}, {"nesterov": True}),
    ],
)
def test_an_optimizer_with_another_option_takes_over_the_state(
    cls: Any, given: dict[str, Any], options: dict[str, Any]
) -> None:
    params = {"w": np.ones(3)}
    opt = cls(params, **given)
    opt.step({"w": np.ones(3)})
    other = cls(params, **given, **options)
    other.load_state_dict(opt.state_dict(), hyperparameters="current")
    assert other.step({"w": np.ones(3)}).step == 2
    (key,) = options
    assert other.state_dict()["options"][key] == options[key]


def test_lr_and_decay_can_be_assigned() -> None:
    opt = AdamW({"w": np.ones(3)}, lr=0.1)
    ema = EMA(opt, decay=0.5)
    opt.lr = 0.2
    ema.decay = 0.9
    assert (opt.groups[0].lr, ema.decay) == (0.2, 0.9)


def test_a_method_can_be_wrapped() -> None:
    """Schedulers of torch, mocks, and programs that log each step do this."""
    opt = AdamW({"w": np.ones(3)}, lr=0.1)
    seen = []
    original = opt.step

    def logged(*args: Any, **options: Any) -> Any:
        report = original(*args, **options)
        seen.append(report.step)
        return report

    opt.step = logged  # type: ignore[method-assign]
    opt.step({"w": np.ones(3)})
    assert seen == [1]
    del opt.step
    opt.step({"w": np.ones(3)})
    assert seen == [1]
    with mock.patch.object(opt, "save") as save:
        opt.save("nowhere")
    save.assert_called_once_with("nowhere")


class Own(AdamW):
    """A subclass as programs write it, with declared and undeclared attributes."""

    verbose = False

    def __init__(self, params: Any, max_norm: float) -> None:
        super().__init__(params, lr=0.1)
        self.max_norm = max_norm
        self.history: list[int] = []
        self._private = 1

    @property
    def learning_rate(self) -> Any:
        return self.lr

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.lr = value


def test_subclasses_may_add_attributes() -> None:
    opt = Own({"w": np.ones(3)}, max_norm=1.0)
    opt.verbose = True
    opt.learning_rate = 0.3
    assert (opt.verbose, opt.max_norm, opt.lr, opt.history, opt._private) == (True, 1, 0.3, [], 1)
    for again in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):  # noqa: S301 - ours
        assert (again.verbose, again.max_norm, again._private) == (True, 1.0, 1)

    class Average(EMA):
        pass

    class Manager(CheckpointManager):
        pass

    ema = Average(opt, 0.5)
    ema.note = "mine"  # type: ignore[attr-defined]
    manager = Manager("nowhere")
    manager.note = "mine"  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", ["maximize", "amsgrad", "epsilon", "weight_decay", "step_count"])
def test_subclasses_refuse_other_attributes(key: str) -> None:
    opt = Own({"w": np.ones(3)}, max_norm=1.0)
    with unchanged(opt), pytest.raises(AttributeError, match=f"'{key}' cannot be set on Own"):
        setattr(opt, key, 0.5)


def test_objects_can_be_copied_pickled_and_referenced_weakly() -> None:
    opt = AdamW({"w": np.ones(3)}, lr=2.0 * schedule.cosine(total=10))
    opt.step({"w": np.ones(3)})
    for given in (opt, EMA(opt, decay=0.5), Accumulator(opt), 2.0 * schedule.cosine(total=10)):
        reference = weakref.ref(given)
        for again in (copy.copy(given), copy.deepcopy(given), pickle.loads(pickle.dumps(given))):  # noqa: S301 - ours
            assert type(again) is type(given)
            assert repr(again) == repr(given)
        assert reference() is given
    leaf = copy.copy(opt.state["w"])
    assert leaf["step"] == 1
    gc.collect()


def test_no_suggestion_has_another_meaning() -> None:
    opt = AdamW({"w": np.ones(2)})
    with pytest.raises(AttributeError, match=r"it has no such attribute$"):
        opt.momentum = 0.5  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="did you mean 'step_count'"):
        opt.step_cout = 1  # type: ignore[attr-defined]

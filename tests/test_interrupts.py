"""An interrupt in code of the user reaches the caller as it is, wherever that code runs."""

from __future__ import annotations

from collections import UserDict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from conftest import unchanged
from thalweg import EMA, SGD, AdamW, functional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

raised: list[type[BaseException]] = []


def interrupted(*_: Any, **__: Any) -> Any:
    raise raised[-1]


@pytest.fixture(autouse=True, params=[KeyboardInterrupt, SystemExit, GeneratorExit])
def _error(request: pytest.FixtureRequest) -> Iterator[None]:
    raised.append(request.param)
    yield
    raised.clear()


def with_methods(*names: str, base: type = object) -> Any:
    """An object whose methods of these names raise the interrupt."""
    return type("Interrupted", (base,), dict.fromkeys(names, interrupted))()


class Container(UserDict[str, Any]):
    interrupts = False

    def __getitem__(self, key: str) -> Any:
        return interrupted() if self.interrupts else super().__getitem__(key)


class UnprintableError(TypeError):
    __str__ = interrupted


def raising(error: BaseException) -> Callable[..., Any]:
    def method(*_: Any, **__: Any) -> Any:
        raise error

    return method


def unreadable() -> Any:
    """A gradient that cannot be converted, with an error whose text raises the interrupt."""
    return type("Unreadable", (), {"__array__": raising(UnprintableError())})()


def without_notes(name: str) -> Any:
    """A schedule that fails with an exception whose method `name` raises the interrupt."""
    error = type("Failing", (ValueError,), {name: interrupted})()
    return raising(error)


def step(**arguments: Any) -> Callable[[], Any]:
    return lambda: SGD({"w": np.ones(3)}, 0.1).step({"w": np.ones(3)}, **arguments)


def update(**arguments: Any) -> Callable[[], Any]:
    p, g, m, v = np.ones((4, 3))
    return lambda: functional.adamw(p, g, m, v, **{"step": 1, "lr": 0.1, **arguments})


WAYS: dict[str, Callable[[], Callable[[], Any]]] = {
    "a schedule's number": lambda: (
        lambda: SGD(np.ones(3), lambda _: with_methods("__float__")).step(np.ones(3))
    ),
    "a schedule's exception, as it takes a note": lambda: (
        lambda: SGD(np.ones(3), without_notes("add_note")).step(np.ones(3))
    ),
    "a gradient": lambda: lambda: SGD(np.ones(3), 0.1).step(with_methods("__array__")),
    "a gradient that says why not": lambda: lambda: SGD(np.ones(3), 0.1).step(unreadable()),
    "a number": lambda: lambda: SGD(np.ones(3), with_methods("__float__")),
    "a number that is shown": lambda: lambda: SGD(np.ones(3), with_methods("__repr__")),
    "scale": lambda: step(scale=with_methods("__float__")),
    "scale that is shown": lambda: step(scale=with_methods("__repr__")),
    "max_norm": lambda: step(max_norm=with_methods("__float__")),
    "a flag that is shown": lambda: step(partial=with_methods("__repr__")),
    "a whole number": lambda: lambda: thalweg.set_num_threads(with_methods("__index__")),
    "a whole number that is shown": lambda: (
        lambda: thalweg.set_num_threads(with_methods("__repr__"))
    ),
    "a number of updates": lambda: update(step=with_methods("__index__")),
    "betas": lambda: update(betas=with_methods("__iter__")),
    "betas that are shown": lambda: update(betas=with_methods("__repr__")),
    "one of betas": lambda: update(betas=(0.9, with_methods("__float__"))),
    "a text that is shown": lambda: update(nonfinite=with_methods("__repr__")),
    "names of fields": lambda: (
        lambda: SGD({"a": fields(with_methods("__getitem__", "__len__", base=list))}, 0.1)
    ),
    "a key": lambda: lambda: SGD({with_methods("__str__", base=int): np.ones(3)}, 0.1),
}


def fields(names: Any) -> Any:
    """A tuple like a named one, whose field names raise the interrupt."""
    return type("Fields", (tuple,), {"_fields": property(interrupted)})((np.ones(3), names))


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupt_in_code_of_the_user_reaches_the_caller(way: str) -> None:
    threads = thalweg.get_num_threads()
    call = WAYS[way]()
    with pytest.raises(raised[-1]):
        call()
    assert thalweg.get_num_threads() == threads


@pytest.mark.parametrize("act", ["step", "save", "open_step"])
def test_an_interrupt_in_a_container_changes_nothing(act: str, tmp_path: Any) -> None:
    params = Container({"w": np.ones(3)})
    opt = AdamW(params)
    opt.step({"w": np.ones(3)})
    acts = {
        "step": lambda: opt.step({"w": np.ones(3)}),
        "save": lambda: opt.save(tmp_path / "w.safetensors"),
        "open_step": lambda: opt.open_step().__enter__()({"w": np.ones(3)}),
    }
    with unchanged(opt):
        params.interrupts = True
        with pytest.raises(raised[-1]):
            acts[act]()
        params.interrupts = False
    assert not list(tmp_path.iterdir())
    assert opt.step({"w": np.ones(3)}).step == 2


@pytest.mark.parametrize("error", [LookupError, KeyError, IndexError])
def test_a_container_without_its_parameter_is_refused(error: type[Exception]) -> None:
    params = Container({"w": np.ones(3)})
    opt = AdamW(params)
    params.interrupts = True
    raised.append(error)
    with pytest.raises(ValueError, match="in params was replaced"):
        opt.step({"w": np.ones(3)})


def test_an_interrupt_between_enter_and_the_block_exits_the_context() -> None:
    """On Python 3.14, `__exit__` is not called after a signal at the end of `__enter__`."""
    params = {"w": np.ones(3)}
    opt = SGD(params, 0.5)
    ema = EMA(opt, 0.5)
    opt.step({"w": np.ones(3)})
    ema.update()

    def enter(manager: Any) -> None:
        manager.__enter__()
        raise raised[-1]

    for make in (ema.swapped, opt.open_step):
        with pytest.raises(raised[-1]):
            enter(make())
        assert params["w"].tolist() == [0.5] * 3
    assert opt.step({"w": np.ones(3)}).step == 2

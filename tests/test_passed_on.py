"""An exception from the caller's code passes through unchanged, and nothing has changed."""

from __future__ import annotations

from collections import UserDict, UserList
from typing import TYPE_CHECKING, Any, NoReturn
from unittest import mock

import numpy as np
import pytest

import thalweg
from conftest import unchanged
from thalweg import EMA, Accumulator, AdamW, CheckpointManager, schedule

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class OwnError(Exception):
    """An exception that thalweg does not handle."""


class Hostile:
    """An object that can stand for many kinds of argument and raises in each use."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def fail(self, *_args: Any, **_options: Any) -> NoReturn:
        raise self.error

    __call__ = __iter__ = __len__ = expand = items = fail
    shape = property(fail)


class HostileNumber:
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __float__(self) -> float:
        raise self.error


class HostileDict(UserDict[str, Any]):
    def __init__(self, given: Any, error: type[BaseException]) -> None:
        self.error: Any = None
        super().__init__(given)
        self.error = error

    def __getitem__(self, key: str) -> Any:
        if self.error is not None:
            raise self.error
        return super().__getitem__(key)


class HostileList(UserList[Any]):
    def __init__(self, given: Any, error: type[BaseException]) -> None:
        super().__init__(given)
        self.error = error

    def __getitem__(self, position: Any) -> Any:
        raise self.error


PARAMS = {"w": np.ones(3)}

PLACES: dict[str, Callable[[AdamW, type[BaseException], Path], object]] = {
    "groups": lambda _, error, __: AdamW(PARAMS, groups=HostileList([{}], error)),
    "a match": lambda _, error, __: AdamW(PARAMS, groups=[{"match": Hostile(error)}]),
    "a ready group": lambda _, error, __: AdamW(PARAMS, groups=[Hostile(error)]),
    "betas": lambda _, error, __: AdamW(PARAMS, betas=HostileList([0.9, 0.99], error)),
    "a rate": lambda _, error, __: AdamW(PARAMS, lr=Hostile(error).fail).step(PARAMS["w"] * 1),
    "a decay": lambda _, error, __: EMA(PARAMS, Hostile(error).fail).update(),
    "steps of a schedule": lambda _, error, __: schedule.piecewise_constant(Hostile(error)),
    "an operand of a schedule": lambda _, error, __: (
        HostileNumber(error) * schedule.cosine(total=10)
    ),
    "a function of a schedule": lambda _, error, __: schedule.zero_based(Hostile(error).fail)(1),
    "the JSON of a schedule": lambda _, error, __: schedule.from_json(
        HostileDict({"schedule": "cosine"}, error)
    ),
    "a state dict": lambda opt, error, _: opt.load_state_dict(HostileDict(opt.state_dict(), error)),
    "state in it": lambda opt, error, _: opt.load_state_dict(
        {**opt.state_dict(), "state": {"w": HostileDict(opt.state_dict()["state"]["w"], error)}}
    ),
    "an average in it": lambda opt, error, _: opt.load_state_dict(
        {**opt.state_dict(), "attached": {"ema": HostileDict(EMA(PARAMS, 0.5).state_dict(), error)}}
    ),
    "leaves of a tree": lambda _, error, __: thalweg.tree.unflatten(
        HostileDict({"w": 1}, error), like=PARAMS
    ),
    "extra": lambda opt, error, path: CheckpointManager(path, every=1).save_if_due(
        opt, extra=Hostile(error)
    ),
    "a shape": lambda _, error, path: thalweg.map_params(path, {"w": Hostile(error)}),
}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OwnError])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_exceptions_that_are_not_handled_pass_through(
    place: Callable[..., object], error: type[BaseException], tmp_path: Path
) -> None:
    opt = AdamW({"w": np.ones(3)})
    EMA(opt, 0.5)
    opt.step({"w": np.ones(3)})
    with unchanged(opt), pytest.raises(error):
        place(opt, error, tmp_path / "run")


def test_a_handled_exception_becomes_the_cause() -> None:
    with pytest.raises(TypeError, match="must map steps to numbers") as told:
        schedule.piecewise_constant(Hostile(ValueError))
    assert isinstance(told.value.__cause__, ValueError)


def test_an_operand_that_is_no_number_is_refused_with_the_reason() -> None:
    with pytest.raises(TypeError, match="an operand must be a number, got True"):
        True * schedule.cosine(total=10)
    with pytest.raises(TypeError, match="unsupported operand"):
        None * schedule.cosine(total=10)  # type: ignore[operator]


@pytest.mark.filterwarnings("ignore:loading changes")
def test_an_interrupted_load_leaves_sums_and_averages_as_they_were() -> None:
    params = {"w": np.ones(3), "b": np.ones(2)}
    saved = AdamW(params)
    made = [EMA(saved, 0.5), Accumulator(saved)]
    opt = AdamW(params, groups=[{"match": "b", "frozen": True}])
    attached = [EMA(opt, 0.5), Accumulator(opt)]
    before = [mirror.state_dict()["state"].keys() for mirror in attached]
    state = saved.state_dict()
    for what, name in ((opt._held, "adopt"), (attached[1]._mirrored, "follow")):
        interrupted = mock.patch.object(what, name, side_effect=KeyboardInterrupt)
        with interrupted, pytest.raises(KeyboardInterrupt):
            opt.load_state_dict(state)
        assert [mirror.state_dict()["state"].keys() for mirror in attached] == before
    opt.load_state_dict(state)
    names = [mirror.state_dict()["state"].keys() for mirror in attached]
    assert names == [mirror.state_dict()["state"].keys() for mirror in made]

"""State dicts, pickles and copies: an interrupted run resumes with the same bits."""

from __future__ import annotations

import copy
import json
import pickle
from collections import UserDict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from conftest import unchanged
from state_dicts import model, same_bits, through_json, train
from thalweg import EMA, SGD, SGDW, Accumulator, Adam, AdamW

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = [
    (AdamW, {"groups": [{"match": "*.b", "weight_decay": 0.0, "lr_scale": 0.5}]}),
    (AdamW, {"amsgrad": True, "independent": True, "weight_decay": 1e-3}),
    (Adam, {"l2": 0.1, "betas": (0.8, 0.9)}),
    (SGD, {"lr": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    (SGDW, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
]


@pytest.mark.parametrize("transport", [copy.deepcopy, through_json])
@pytest.mark.parametrize(("cls", "options"), RUNS)
def test_an_interrupted_run_has_the_same_bits(
    cls: Any, options: dict[str, Any], transport: Callable[[Any], Any]
) -> None:
    straight = cls(model(), **options)
    train(straight, 20)
    first = cls(model(), **options)
    train(first, 10)
    saved = transport(first.state_dict())
    resumed = cls(copy.deepcopy(first._held.tree), **options)
    report = resumed.load_state_dict(saved)
    assert (report.step, report.changed, report.extra) == (10, {}, None)
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), ())
    train(resumed, 10)
    assert same_bits(resumed, straight)


class Dataset:
    """An array of another library, for example a dataset of HDF5."""

    def __init__(self, array: Any) -> None:
        self.array = np.array(array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype, copy=bool(copy))


def numbers(saved: Any, whole: Callable[[int], Any], array: Callable[[Any], Any]) -> Any:
    """The state dict with its integers, arrays and other numbers as other types."""
    if isinstance(saved, dict):
        return {key: numbers(value, whole, array) for key, value in saved.items()}
    if isinstance(saved, list | tuple):
        return [numbers(value, whole, array) for value in saved]
    if isinstance(saved, np.ndarray):
        return array(saved)
    if isinstance(saved, bool):
        return np.bool_(saved)
    if isinstance(saved, int):
        return whole(saved)
    return np.float64(saved) if isinstance(saved, float) else saved


@pytest.mark.parametrize("array", [np.array, Dataset])
@pytest.mark.parametrize("whole", [np.int64, np.uint8, np.array, Dataset])
@pytest.mark.parametrize(("cls", "options"), RUNS)
def test_numbers_and_arrays_may_come_back_as_other_types(
    cls: Any, options: dict[str, Any], whole: Any, array: Any
) -> None:
    first = cls({**model(), "s": np.array(1.0)}, **options)
    attached = EMA(first, 0.5, bias_correction=True), Accumulator(first)
    train(first, 4)
    attached[0].update()
    attached[1].add({name: np.ones(a.shape) for name, a in first.params.items()})
    other = cls(copy.deepcopy(first._held.tree), **options)
    averages, sums = EMA(other, 0.5, bias_correction=True), Accumulator(other)
    assert other.load_state_dict(numbers(first.state_dict(), whole, array)).step == 4
    assert same_bits(other, first)
    assert (averages.count, sums.count, sums.weight) == (1, 1, 1.0)
    assert all((sum_ == 1.0).all() for sum_ in sums.grads.values() if sum_ is not None)


@pytest.mark.parametrize("count", [np.float64(2.0), np.array([2]), np.True_, "2", np.array(2.0)])
def test_a_step_count_must_be_a_whole_number(count: Any) -> None:
    opt = AdamW(model())
    saved = opt.state_dict()
    with unchanged(opt), pytest.raises(ValueError, match="missing or malformed: step_count"):
        opt.load_state_dict({**saved, "step_count": count})


def test_arrays_that_cannot_be_read_are_listed() -> None:
    class Sparse:
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise TypeError("sparse arrays have to be made dense\nand more")

    class Stopped:
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

    opt = AdamW(model())
    saved = opt.state_dict()
    saved["state"]["fc.w"]["exp_avg"] = Sparse()
    message = (
        r"exp_avg of 'fc.w': saved .*Sparse, must be convertible .*; sparse arrays have .* dense$"
    )
    with unchanged(opt), pytest.raises(ValueError, match=message):
        opt.load_state_dict(saved)
    saved["state"]["fc.w"]["exp_avg"] = Stopped()
    with unchanged(opt), pytest.raises(KeyboardInterrupt):
        opt.load_state_dict(saved)


def test_state_dict_copies_unless_copy_is_false() -> None:
    opt = AdamW(model())
    copied, live = opt.state_dict(), opt.state_dict(copy=False)
    exp_avg = opt.state["fc.w"]["exp_avg"]
    assert live["state"]["fc.w"]["exp_avg"] is exp_avg
    assert copied["state"]["fc.w"]["exp_avg"] is not exp_avg
    train(opt, 1)
    assert not copied["state"]["fc.w"]["exp_avg"].any()
    opt.load_state_dict(copied)
    assert opt.state["fc.w"]["exp_avg"] is exp_avg
    assert not exp_avg.any()
    assert opt.step_count == 0


def halve(step: int) -> float:
    return 0.5**step


def test_saved_hyperparameters_replace_others_and_changes_are_listed_once() -> None:
    saved = AdamW(model(), lr=0.5, groups=[{"match": "*.b", "eps": 1e-6}]).state_dict()
    opt = AdamW(model(), lr=0.25, groups=[{"match": "*.b", "eps": 1e-7, "lr_scale": 2.0}])
    with pytest.warns(UserWarning, match=r"lr: 0\.25 -> 0\.5.*eps: 1e-07 -> 1e-06") as warned:
        report = opt.load_state_dict(saved)
    assert [warning.filename for warning in warned] == [__file__]
    assert report.changed == {
        "groups[0].lr": (0.25, 0.5),
        "groups[1].eps": (1e-7, 1e-6),
        "groups[1].lr_scale": (2.0, None),
    }
    assert (opt.lr, opt.resolve("fc.b")["eps"], opt.resolve("fc.b")["lr_scale"]) == (0.5, 1e-6, 1)


def test_groups_are_saved_by_the_names_they_matched() -> None:
    saved = AdamW(model(), groups=[{"match": lambda n, _: n > "o", "lr": 0.5}]).state_dict()
    assert saved["groups"][1]["match"] == ["out.0"]
    opt = AdamW(model())
    with pytest.warns(UserWarning, match="number of groups"):
        opt.load_state_dict(saved)
    assert {name: opt.resolve(name)["lr"] for name in opt.params} == {
        "fc.w": 1e-3,
        "fc.b": 1e-3,
        "out.0": 0.5,
    }
    assert same_bits(copy.deepcopy(opt), opt)


def test_current_keeps_the_hyperparameters_of_the_optimizer() -> None:
    first = AdamW(model(), lr=0.5)
    train(first, 3)
    opt = AdamW(model(), lr=0.25, maximize=True)
    report = opt.load_state_dict(first.state_dict(), hyperparameters="current")
    assert report.changed == {}
    assert opt.lr == 0.25
    assert (opt.step_count, opt.state["out.0"]["step"]) == (3, 2)
    with unchanged(opt), pytest.raises(ValueError, match=r"'saved' or 'current'.*mine"):
        opt.load_state_dict(first.state_dict(), hyperparameters="mine")  # type: ignore[arg-type]


def test_callables_are_saved_by_name_and_kept_when_loading() -> None:
    saved = AdamW(model(), lr=halve, betas=(0.9, halve)).state_dict()
    assert saved["groups"][0]["lr"] == {"callable": f"{__name__}.halve"}
    json.dumps(saved["groups"])
    opt = AdamW(model(), lr=halve, betas=(0.9, halve))
    assert opt.load_state_dict(saved).changed == {}
    assert opt.lr is opt.groups[0].betas[1] is halve
    number = AdamW(model(), lr=0.1, betas=(0.9, halve))
    with unchanged(number), pytest.raises(ValueError, match=r"groups\[0\]\.lr.*halve.*0\.1"):
        number.load_state_dict(saved)
    number.load_state_dict(saved, hyperparameters="current")
    assert number.lr == 0.1


def test_every_difference_is_listed_and_nothing_is_loaded() -> None:
    other = {"fc": {"w": np.ones((2, 3), np.float32), "b": np.ones(3)}, "more": np.ones(2)}
    first = SGD(other, lr=0.1, momentum=0.9, nesterov=True)
    opt = SGDW(model(), lr=0.2, momentum=0.9)
    train(opt, 1)
    with unchanged(opt), pytest.raises(ValueError, match="nothing was loaded") as told:
        opt.load_state_dict(first.state_dict())
    for side in ("'SGD'", "'SGDW'", "nesterov", "'fc.w'", "(2, 3)", "(3, 2)", "'more'", "'out.0'"):
        assert side in str(told.value)
    assert "'fc.b'" not in str(told.value)
    with pytest.raises(ValueError, match=r"float64.*float32"):
        AdamW({"w": np.ones(2, np.float32)}).load_state_dict(AdamW({"w": np.ones(2)}).state_dict())


def test_not_strict_loads_what_fits() -> None:
    other = {"fc": {"w": np.ones((2, 3), np.float32), "b": np.ones(3)}, "more": np.ones(2)}
    first = AdamW(other, lr=0.5)
    first.step({"fc.w": np.ones((2, 3)), "fc.b": np.ones(3), "more": np.ones(2)})
    opt = AdamW(model(), lr=0.5)
    report = opt.load_state_dict(first.state_dict(), strict=False)
    assert (report.missing, report.unexpected) == (("out.0",), ("more",))
    assert all("'fc.w'" in line for line in report.mismatched)
    assert report.mismatched
    assert opt.step_count == report.step == 1
    assert {name: leaf["step"] for name, leaf in opt.state.items()} == {
        "fc.w": 0,
        "fc.b": 1,
        "out.0": 0,
    }
    assert np.array_equal(opt.state["fc.b"]["exp_avg"], first.state["fc.b"]["exp_avg"])


def test_frozen_leaves_are_not_saved() -> None:
    groups = [{"match": "fc.*", "frozen": True}]
    first = AdamW(model(), groups=groups)
    first.step({"out.0": np.ones(2)}, partial=True)
    assert list(first.state_dict()["state"]) == ["out.0"]
    resumed = AdamW(model(), groups=groups)
    assert resumed.load_state_dict(first.state_dict()).changed == {}
    thawed = AdamW(model())
    with unchanged(thawed), pytest.raises(ValueError, match=r"'fc\.w'"):
        thawed.load_state_dict(first.state_dict(), hyperparameters="current")


def without(key: str) -> Callable[[Any], object]:
    return lambda saved: saved.pop(key)


def with_(value: Any, *path: Any) -> Callable[[Any], object]:
    def change(saved: Any) -> None:
        for key in path[:-1]:
            saved = saved[key]
        saved[path[-1]] = value

    return change


MALFORMED = {
    **{f"without {key}": without(key) for key in AdamW(np.ones(1)).state_dict()},
    **{
        f"group 0 without {key}": lambda saved, key=key: saved["groups"][0].pop(key)
        for key in ("match", "lr", "betas", "eps", "weight_decay")
    },
    **{
        f"{'.'.join(map(str, path))} = {str(value)[:8]}": with_(value, *path)
        for value, *path in [
            (99, "format"),
            ("AdamX", "rule"),
            (-1, "step_count"),
            (2**70, "step_count"),
            ([], "groups"),
            ([3], "groups"),
            ("*", "groups", 1, "match"),
            (3, "groups", 1, "match"),
            ([3], "groups", 1, "match"),
            (0.1, "groups", 0, "momentum"),
            (0.1, "groups", 0, 3),
            (-0.1, "groups", 0, "lr"),
            ("0.1", "groups", 0, "lr"),
            (None, "groups", 0, "lr"),
            (0.9, "groups", 0, "betas"),
            ([0.9], "groups", 0, "betas"),
            ([0.9, 0.9, 0.9], "groups", 0, "betas"),
            ([0.9, None], "groups", 0, "betas"),
            (3, "state"),
            (3, "state", "fc.w"),
            ({}, "state", "fc.w"),
            (-1, "state", "fc.w", "step"),
            (1.0, "state", "fc.w", "step"),
            (1.0, "state", "fc.w", 3),
            (2**70, "state", "fc.w", "step"),
            ([[1.0]], "state", "fc.w", "exp_avg"),
            (np.ones((3, 2)), "state", "fc.w", "exp_avg"),
            (np.ones((3, 2), np.float32), "state", "fc.w", "max_exp_avg_sq"),
        ]
    },
}


@pytest.mark.parametrize("malform", MALFORMED.values(), ids=MALFORMED)
def test_malformed_dicts_are_refused(malform: Callable[[Any], object]) -> None:
    opt = AdamW(model(), groups=[{"match": "*.b", "lr": 0.5}])
    train(opt, 2)
    saved = opt.state_dict()
    malform(saved)
    with unchanged(opt), pytest.raises(ValueError):  # noqa: PT011
        opt.load_state_dict(saved)


@pytest.mark.parametrize("saved", [None, [], {}, 3, {"state": {}, "param_groups": []}])
def test_other_objects_are_refused_as_state_dicts(saved: Any) -> None:
    opt = AdamW(model())
    with unchanged(opt), pytest.raises(ValueError, match="not a state dict"):
        opt.load_state_dict(saved)


def test_a_whole_checkpoint_is_refused_naming_the_entry_to_load() -> None:
    opt = AdamW(model())
    for wrap, place in (
        (
            lambda s: {"params": {"w": np.ones(2)}, "optimizer": s},
            r'pass checkpoint\["optimizer"\]$',
        ),
        (lambda s: {"both": [{0: s}, s]}, r'\["both"\]\[0\]\[0\] or checkpoint\["both"\]\[1\]$'),
    ):
        with unchanged(opt), pytest.raises(ValueError, match=place):
            opt.load_state_dict(wrap(opt.state_dict()))


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))],  # noqa: S301 - our own bytes
    ids=["deepcopy", "pickle"],
)
@pytest.mark.parametrize(("cls", "options"), RUNS)
def test_copies_share_arrays_and_continue_with_the_same_bits(
    cls: Any, options: dict[str, Any], duplicate: Callable[[Any], Any]
) -> None:
    straight = cls(model(), **options)
    train(straight, 20)
    params = model()
    opt = cls(params, **options)
    train(opt, 10)
    opt._note = "kept"
    copied, other = duplicate((params, opt))
    assert type(other) is cls
    assert other._note == "kept"
    assert other.params["fc.w"] is copied["fc"]["w"] is not params["fc"]["w"]
    assert repr(other) == repr(opt)
    train(other, 10)
    assert same_bits(other, straight)
    assert opt.step_count == 10


def test_a_shallow_copy_has_its_own_state() -> None:
    params = model()
    opt = AdamW(params)
    train(opt, 2)
    other = copy.copy(opt)
    assert other.params["fc.w"] is params["fc"]["w"]
    assert same_bits(other, opt)
    train(other, 1)
    assert (opt.step_count, other.step_count) == (2, 3)
    assert not np.shares_memory(opt.state["fc.b"]["exp_avg"], other.state["fc.b"]["exp_avg"])


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_momentum_that_was_edited_to_zero_survives_a_copy(
    duplicate: Callable[[Any], Any],
) -> None:
    opt = SGD(model(), lr=0.1, momentum=0.9)
    train(opt, 3)
    opt.groups[0].momentum = 0.0
    other = duplicate(opt)
    assert same_bits(other, opt)
    other.groups[0].momentum = 0.9
    assert other.step({"out.0": np.ones(2)}, partial=True).step == 4


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_has_the_state_that_the_original_has(duplicate: Callable[[Any], Any]) -> None:
    opt = SGD(model(), lr=0.1, groups=[{"match": "fc.*", "frozen": False}])
    train(opt, 2)
    opt.groups[1].frozen = True
    opt.groups[1].momentum = 0.5  # no buffer exists for it, which is allowed while frozen
    for one in (opt, duplicate(opt)):
        assert list(one.state["fc.w"]) == ["step"]
        with unchanged(one), pytest.raises(ValueError, match="momentum"):
            one.groups[1].frozen = False


@pytest.mark.parametrize("array", [np.ones((3, 2)), np.ones(2, np.float32), np.ones(2), None])
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_is_refused_while_the_tree_holds_another_array(
    duplicate: Callable[[Any], Any], array: Any
) -> None:
    params = model()
    opt = AdamW(params)
    train(opt, 2)
    params["out"][0] = array
    with unchanged(opt), pytest.raises(ValueError, match=r"'out\.0'.*rebind"):
        duplicate(opt)


def test_names_that_look_like_globs_survive_a_copy() -> None:
    params = {"w[0]": np.ones(2), "*": np.ones(2), "last": np.ones(2)}
    opt = AdamW(params, groups=[{"match": lambda name, _: name != "last", "lr": 0.5}])
    assert same_bits(copy.deepcopy(opt), opt)
    assert copy.deepcopy(opt).groups[1].names == ("w[0]", "*")


def test_the_state_of_a_leaf_that_was_frozen_again_survives_a_copy() -> None:
    opt = AdamW(model(), groups=[{"match": "fc.*", "frozen": False}])
    train(opt, 3)
    opt.groups[1].frozen = True
    other = copy.deepcopy(opt)
    for one in (opt, other):
        one.groups[1].frozen = False
        train(one, 3)
    assert same_bits(other, opt)


def test_state_that_loading_thaws_is_checked() -> None:
    first = AdamW(model())
    train(first, 2)
    saved = first.state_dict()
    opt = AdamW(model(), groups=[{"match": "fc.*", "frozen": True}])
    for key in ("exp_avg", "exp_avg_sq"):
        broken = copy.deepcopy(saved)
        broken["state"]["fc.w"]["max_" + key] = broken["state"]["fc.w"].pop(key)
        with unchanged(opt), pytest.raises(ValueError, match=r"'fc\.w'"):
            opt.load_state_dict(broken)
    with pytest.warns(UserWarning, match="number of groups"):
        opt.load_state_dict(saved)
    assert np.array_equal(opt.state["fc.w"]["exp_avg"], first.state["fc.w"]["exp_avg"])
    assert opt.state["fc.w"]["step"] == 2


class Lazy(UserDict[str, Any]):
    """A leaf that records lookups; one backed by a file reads an array at each lookup."""

    def __getitem__(self, key: str) -> Any:
        self.asked.append(key)
        return super().__getitem__(key)

    def __init__(self, leaf: dict[str, Any]) -> None:
        self.asked: list[str] = []
        super().__init__(leaf)


def test_saved_arrays_are_looked_up_once() -> None:
    opt = AdamW({"w": np.ones(3)})
    opt.step({"w": np.ones(3)})
    saved = opt.state_dict()
    leaf = saved["state"]["w"] = Lazy(saved["state"]["w"])
    opt.load_state_dict(saved)
    assert sorted(leaf.asked) == ["exp_avg", "exp_avg_sq", "step"]


def test_a_refused_load_changes_no_group_either() -> None:
    opt = AdamW({"w": np.ones(3)}, lr=0.5)
    saved = AdamW({"w": np.ones(3)}, lr=0.25).state_dict()
    opt.state["w"]["exp_avg_sq"].setflags(write=False)
    with (
        unchanged(opt),
        pytest.warns(UserWarning, match=r"lr: 0\.5 -> 0\.25"),
        pytest.raises(ValueError, match=r"state of 'w' has changed.*read-only"),
    ):
        opt.load_state_dict(saved)
    opt.state["w"]["exp_avg_sq"].setflags(write=True)
    assert opt.step({"w": np.ones(3)}).lr == 0.5


def test_names_that_only_groups_have_are_listed() -> None:
    groups = [{"match": "b", "weight_decay": 0.0}, {"match": "ice", "frozen": True}]
    saved = AdamW({"w": np.ones(3), "b": np.ones(2), "ice": np.ones(1)}, groups=groups).state_dict()
    saved["state"] = {f"module.{name}": leaf for name, leaf in saved["state"].items()}
    opt = AdamW({"module": {"w": np.ones(3), "b": np.ones(2)}})
    with (
        unchanged(opt),
        pytest.raises(ValueError, match=r"in the saved groups: 'b', which is not") as told,
    ):
        opt.load_state_dict(saved)
    assert "'ice'" not in str(told.value)  # a frozen name that is missing loses nothing
    assert opt.load_state_dict(saved, hyperparameters="current").unexpected == ()
    with pytest.warns(UserWarning, match="number of groups"):
        assert opt.load_state_dict(saved, strict=False).unexpected == ("w", "b")

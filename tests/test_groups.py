"""Groups: hyperparameters of each parameter, live edits, and frozen parameters."""

from __future__ import annotations

import glob
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import thalweg
from conftest import unchanged
from thalweg.groups.matching import Matching

NAMES = ["b", "fc.b", "fc.w", "out.w"]


def model() -> dict[str, np.ndarray]:
    return {name: np.ones(3 if name.endswith("b") else (3, 2)) for name in NAMES}


def gradients(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.ones(np.shape(array)) for name, array in params.items()}


def is_matrix(_: str, array: Any) -> bool:
    return np.ndim(array) == 2


@pytest.mark.parametrize(
    ("match", "names"),
    [
        ("*", NAMES),
        ("fc.w", ["fc.w"]),
        ("*.b", ["b", "fc.b"]),
        ("fc*", ["fc.b", "fc.w"]),
        ("*.[!b]", ["fc.w", "out.w"]),
        (["out.?", "b"], ["b", "out.w"]),
        (("*.w", "fc.*"), ["fc.b", "fc.w", "out.w"]),
        (is_matrix, ["fc.w", "out.w"]),
        (lambda name, _: name < "c", ["b"]),
    ],
)
def test_match_selects_parameters(match: Any, names: list[str]) -> None:
    opt = thalweg.AdamW(model(), groups=[{"match": match, "lr": 0.5}])
    assert opt.groups[1].names == tuple(names)
    assert opt.groups[1].match == match
    assert [name for name in NAMES if opt.resolve(name)["lr"] == 0.5] == names


def test_later_groups_win_key_by_key_and_scales_multiply() -> None:
    opt = thalweg.AdamW(
        model(),
        lr=0.1,
        groups=[
            {"match": "fc.*", "lr": 0.2, "eps": 1e-6, "lr_scale": 0.5},
            {"match": "*.b", "lr": 0.3, "lr_scale": 0.1, "name": "biases"},
        ],
    )
    applied = {name: opt.resolve(name) for name in NAMES}
    assert {name: got["lr"] for name, got in applied.items()} == {
        "b": 0.3,
        "fc.b": 0.3,
        "fc.w": 0.2,
        "out.w": 0.1,
    }
    assert [applied[name]["eps"] for name in NAMES] == [1e-8, 1e-6, 1e-6, 1e-8]
    assert [applied[name]["lr_scale"] for name in NAMES] == [0.1, 0.05, 0.5, 1.0]
    assert applied["fc.b"]["groups"] == (0, 1, 2)
    assert applied["fc.b"]["betas"] == (0.9, 0.999)
    assert opt.groups[2].name == "biases"
    with pytest.raises(KeyError, match="fc"):
        opt.resolve("fc")


def test_a_step_applies_what_resolve_shows() -> None:
    params = model()
    groups = [{"match": "fc.*", "lr_scale": 0.5}, {"match": "*.b", "lr": 3.0, "lr_scale": 0.25}]
    opt = thalweg.SGD(params, lr=1.0, groups=groups)
    assert opt.step(gradients(params)).lr == 1.0
    for name, array in params.items():
        applied = opt.resolve(name)
        assert (array == 1.0 - applied["lr"] * applied["lr_scale"]).all()


def test_groups_are_edited_live() -> None:
    params = model()
    opt = thalweg.SGDW(params, lr=1.0, weight_decay=0.0, groups=[{"match": "*.b", "name": "b"}])
    opt.lr = 0.25
    opt.groups[1].lr = lambda step: step / 2
    opt.groups[0].lr_scale = 2.0
    report = opt.step(gradients(params))
    assert report.lr == 0.5
    assert (params["fc.w"] == 0.5).all()
    assert (params["b"] == 0.0).all()
    del opt.groups[1].lr
    opt.groups[1].weight_decay = 1.0
    opt.step(gradients(params))
    assert (params["fc.w"] == 0.0).all()
    assert (params["b"] == -0.5).all()
    assert opt.lr == opt.groups[0].lr == 0.25
    assert opt.groups[1].keys() == ["name", "weight_decay"]


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ("lr", -1.0, ValueError, "lr .*-1"),
        ("lr", "0.1", TypeError, "lr .*'0.1'"),
        ("lr_scale", float("nan"), ValueError, "lr_scale"),
        ("betas", (0.9, 1.0), ValueError, r"betas\[1\]"),
        ("betas", (0.9,), ValueError, r"betas .*\(0.9,\)"),
        ("betas", 0.9, TypeError, "betas"),
        ("betas", lambda _: (0.9, 0.9), TypeError, "betas"),
        ("eps", 1e-16, ValueError, "eps .*float32"),
        ("frozen", 1, TypeError, "frozen .*True or False"),
        ("name", 3, TypeError, "name"),
        ("wieght_decay", 0.1, TypeError, "AdamW .*'wieght_decay'.* weight_decay"),
        ("momentum", 0.1, TypeError, "AdamW .*'momentum'"),
        ("l2", 0.1, TypeError, "AdamW .*'weight_decay'.*Adam, SGD"),
        ("match", "*", (AttributeError, TypeError), "match"),
        ("names", ("w",), (AttributeError, TypeError), "names"),
    ],
)
def test_a_refused_edit_changes_nothing(
    key: str, value: Any, error: type[Exception], message: str
) -> None:
    opt = thalweg.AdamW({"w": np.ones(2, np.float32)}, groups=[{"match": "w", "lr": 0.5}])
    for group in opt.groups:
        with unchanged(opt), pytest.raises(error, match=message):
            setattr(group, key, value)
    if key not in ("match", "names"):
        with pytest.raises(error, match=message):
            thalweg.AdamW(np.ones(2, np.float32), groups=[{"match": "*", key: value}])


def test_deleting_an_absent_key_is_refused() -> None:
    opt = thalweg.AdamW(model(), groups=[{"match": "*.b", "lr": 0.5}])
    for group, key in [(opt.groups[1], "eps"), (opt.groups[0], "eps")]:
        with unchanged(opt), pytest.raises(AttributeError, match="eps"):
            delattr(group, key)
    with pytest.raises(AttributeError, match=r"'eps'.*resolve"):
        _ = opt.groups[1].eps


def test_a_group_stays_valid_after_rebind_and_load() -> None:
    params = model()
    opt = thalweg.AdamW(params, groups=[{"match": "*.b", "lr": 0.5}])
    held = opt.groups[1]
    for replaced in (lambda: opt.rebind(params), lambda: opt.load_state_dict(opt.state_dict())):
        replaced()
        held.lr /= 2
        assert opt.resolve("b")["lr"] == held.lr == opt.groups[1].lr


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ({"match": "*"}, TypeError, "groups must be a sequence"),
        ("*.b", TypeError, "groups must be a sequence"),
        (["*.b"], TypeError, r"groups\[0\]"),
        ([{"lr": 0.1}], TypeError, r"groups\[0\] must have 'match'.*got lr"),
        ([{}], TypeError, r"groups\[0\] must have 'match'.*got no key"),
        ([{"match": "*", 3: 0.1}], TypeError, "AdamW has no 3; it has lr,"),
        ([{"match": None}], TypeError, r"match of groups\[0\] must be"),
        ([{"match": 3}], TypeError, r"match of groups\[0\] must be"),
        ([{"match": []}], TypeError, r"match of groups\[0\] must be"),
        ([{"match": [3]}], TypeError, r"match of groups\[0\] must be"),
        ([{"match": "*.bias"}], ValueError, r"'\*.bias'"),
        ([{"match": ["*.b", "*.v"]}], ValueError, r"'\*.v'"),
        ([{"match": "FC.w"}], ValueError, "'FC.w'"),
        pytest.param([{"match": lambda *_: False}], ValueError, "nothing", id="a function"),
    ],
    ids=repr,
)
def test_invalid_groups_are_refused(groups: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        thalweg.AdamW(model(), groups=groups)


def test_each_beta_is_a_number_or_a_schedule() -> None:
    constant, scheduled = np.ones(3), np.ones(3)
    betas = (lambda step: 0.5 + step / 10, 0.9), (0.8, lambda step: 0.9 + step / 100)
    opt = thalweg.AdamW({"w": scheduled}, betas=betas[0])
    for step in range(1, 4):
        opt.step({"w": np.full(3, float(step))})
    assert opt.groups[0].betas[1] == 0.9
    opt.groups[0].betas = betas[1]
    assert opt.groups[0].betas == betas[1]
    opt.step({"w": np.full(3, 4.0)})

    exp_avg, exp_avg_sq = np.zeros((2, 3))
    for step, pair in enumerate([(0.6, 0.9), (0.7, 0.9), (0.8, 0.9), (0.8, 0.94)], start=1):
        grad = np.full(3, float(step))
        thalweg.functional.adamw(constant, grad, exp_avg, exp_avg_sq, step, lr=1e-3, betas=pair)
    assert np.array_equal(constant, scheduled)


def test_momentum_cannot_be_edited_from_zero() -> None:
    params = model()
    opt = thalweg.SGD(params, lr=0.1, groups=[{"match": "fc.*", "momentum": 0.9}])
    assert list(opt.state["fc.w"]) == ["step", "momentum_buffer"]
    assert list(opt.state["b"]) == ["step"]
    with unchanged(opt), pytest.raises(ValueError, match=r"momentum of 'b' must stay 0"):
        opt.groups[0].momentum = 0.5
    opt.groups[1].momentum = 0.0
    opt.step(gradients(params))
    opt.groups[1].momentum = 0.5
    opt.step(gradients(params))


@pytest.mark.parametrize("cls", [thalweg.AdamW, thalweg.Adam, thalweg.SGDW, thalweg.SGD])
def test_no_decay_spares_parameters_of_few_axes(cls: type[thalweg.Optimizer]) -> None:
    params = {**model(), "[odd]": np.ones(1), "s": np.array(1.0), "t": np.ones((2, 2, 2))}
    key = "l2" if cls in (thalweg.Adam, thalweg.SGD) else "weight_decay"
    opt = cls(params, lr=0.1, **{key: 0.5}, groups=[thalweg.no_decay()])
    spared = [name for name in params if opt.resolve(name)[key] == 0.0]
    assert spared == [name for name, array in params.items() if array.ndim <= 1]
    assert opt.groups[1].name == "no_decay"
    opt = cls(params, lr=0.1, **{key: 0.5}, groups=[thalweg.no_decay(max_ndim=2)])
    assert [name for name in params if opt.resolve(name)[key]] == ["t"]
    with pytest.raises(ValueError, match=r"no_decay\(max_ndim=1\) matches nothing"):
        cls({"w": np.ones((2, 2))}, lr=0.1, groups=[thalweg.no_decay()])


def test_repr_counts_the_parameters_that_train() -> None:
    params = {**model(), "big": np.ones((1000, 2)), "n": np.arange(3)}
    opt = thalweg.AdamW(params, lr=0.1, groups=[{"match": "n", "frozen": True}])
    assert repr(opt) == (
        "AdamW(lr=0.1, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01; "
        "5 arrays, 2,018 parameters train, 1 frozen, 32,288 bytes of state, step 0)"
    )
    assert repr(opt.groups[1]) == "Group(frozen=True, 1 arrays)"


def read_only() -> np.ndarray:
    array = np.ones(3)
    array.setflags(write=False)
    return array


STRANGE = {
    "integers": np.arange(3),
    "long double": np.ones(3, np.longdouble),
    "objects": np.array([None, "a"], object),
    "big-endian": np.ones(3, ">f8"),
    "read-only": read_only(),
    "broadcast": np.broadcast_to(1.0, 3),
    "masked": np.ma.ones(3),
}


@pytest.mark.parametrize("array", STRANGE.values(), ids=STRANGE)
def test_a_frozen_leaf_may_be_any_array(array: Any) -> None:
    params = {"w": np.ones(3), "ice": array}
    opt = thalweg.AdamW(params, groups=[{"match": "ice", "frozen": True}])
    opt.step({"w": np.ones(3)})
    assert "ice" in opt.params
    assert "ice" not in opt.state
    assert list(opt.state) == ["w"]
    assert len(opt.state) == 1
    for name in ("ice", "other"):
        with pytest.raises(KeyError, match=name):
            opt.state[name]
    assert "ice" not in opt.state_dict()["state"]
    with unchanged(opt), pytest.raises((TypeError, ValueError), match="'ice'"):
        opt.groups[1].frozen = False


@pytest.mark.parametrize("gradient", [np.full(3, np.nan), None, "anything", np.ones(99)])
def test_a_frozen_leaf_needs_no_gradient(gradient: Any) -> None:
    params = {"w": np.ones(4), "ice": np.ones(3)}
    opt = thalweg.SGD(params, lr=1.0, groups=[{"match": "ice", "frozen": True}])
    report = opt.step({"w": np.ones(4), "ice": gradient}, max_norm=100.0)
    assert report.grad_norm == 2.0
    assert (params["ice"] == 1.0).all()


def test_the_type_of_a_frozen_leaf_does_not_limit_eps() -> None:
    params = {"w": np.ones(3), "ice": np.ones(3, np.float32)}
    opt = thalweg.AdamW(params, eps=1e-100, groups=[{"match": "ice", "frozen": True}])
    with unchanged(opt), pytest.raises(ValueError, match=r"eps .*float32"):
        opt.groups[1].frozen = False


def test_schedules_of_frozen_leaves_are_not_called() -> None:
    def forbidden(step: int) -> float:
        raise AssertionError(step)

    params = {"w": np.ones(3), "ice": np.ones(3)}
    groups = [{"match": "ice", "frozen": True, "lr_scale": forbidden}]
    thalweg.SGD(params, lr=1.0, groups=groups).step({"w": np.ones(3)})


def test_a_parameter_is_thawed_and_frozen_during_a_run() -> None:
    params = {"w": np.ones(3), "ice": np.ones(3)}
    opt = thalweg.AdamW(params, lr=0.1, groups=[{"match": "ice", "frozen": True}])
    group, grads = opt.groups[1], {"w": np.ones(3), "ice": np.ones(3)}
    for frozen, step, ice in [(True, 2, 0), (False, 4, 2), (True, 5, 2), (False, 6, 3)]:
        group.frozen = frozen
        before = params["ice"].copy()
        while opt.step_count < step:
            opt.step(grads)
        assert np.array_equal(params["ice"], before) == frozen
        assert opt.state["w"]["step"] == step
        assert opt.state["ice"]["step"] == ice if ice else "ice" not in opt.state
    del group.frozen
    assert not opt.resolve("ice")["frozen"]


def test_a_step_with_all_parameters_frozen_is_refused() -> None:
    opt = thalweg.SGD(np.ones(3), lr=1.0, groups=[{"match": "*", "frozen": True}])
    with unchanged(opt), pytest.raises(ValueError, match="no parameter that trains"):
        opt.step(np.ones(3))


def test_only_adapters_train() -> None:
    params = {
        "embedding": np.arange(4),
        "block": [{"w": np.ones((2, 2)), "lora_a": np.ones(2)} for _ in range(2)],
    }
    groups = [{"match": "*", "frozen": True}, {"match": "*lora*", "frozen": False}]
    opt = thalweg.AdamW(params, groups=groups)
    adapters = ["block.0.lora_a", "block.1.lora_a"]
    assert list(opt.state) == list(opt.state_dict()["state"]) == adapters
    assert "2 arrays, 4 parameters train, 3 frozen" in repr(opt)
    opt.step({name: np.ones(2) for name in adapters})
    assert all((block["w"] == 1.0).all() for block in params["block"])
    assert all((block["lora_a"] < 1.0).all() for block in params["block"])


BRACKETS = ["['params']['kernel']", "layers[0].w", "layers0.w", "layers[0].b", "*", "a?"]


@pytest.mark.parametrize(
    ("match", "names"),
    [
        ("['params']['kernel']", ["['params']['kernel']"]),
        ("layers[0].w", ["layers[0].w"]),
        ("layers[01].w", ["layers0.w"]),
        ("layers[[]0].*", ["layers[0].w", "layers[0].b"]),
        (glob.escape("layers[0]") + "*", ["layers[0].w", "layers[0].b"]),
        (["layers[0].b", "layers0.w"], ["layers0.w", "layers[0].b"]),
        ("*", ["*"]),
        ("a?", ["a?"]),
        ("*?", BRACKETS),
    ],
)
def test_a_name_with_glob_characters_matches_its_parameter(match: Any, names: list[str]) -> None:
    params = {name: np.ones(2) for name in BRACKETS}
    opt = thalweg.AdamW(params, groups=[{"match": match, "lr": 0.5}])
    assert opt.groups[1].names == tuple(names)
    opt.reset(match)


def test_a_name_with_brackets_matches_its_parameter_alone_after_extend() -> None:
    params = {"layers[0].w": np.ones(2)}
    opt = thalweg.AdamW(params, groups=[{"match": "layers[0].w", "lr": 0.5}])
    params = {"layers0.w": np.ones(2), **params, "*": np.ones(2)}
    opt.extend(params)
    assert [group.names for group in opt.groups] == [tuple(params), ("layers[0].w",)]


def fitting(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(f".{name}", pattern)


PIECES = st.sampled_from(["a", "b", ".", "*", "?", "[", "]", "!", "[ab]", "[!a]", "-"])
WORDS = st.lists(PIECES, max_size=6).map("".join)


@given(st.lists(WORDS, min_size=1, max_size=8, unique=True), WORDS)
def test_globs_match_as_in_fnmatch(names: list[str], pattern: str) -> None:
    expected = [pattern] if pattern in names else [n for n in names if fitting(pattern, n)]
    matching = Matching(dict.fromkeys(names))
    assert matching.fitting(pattern) == expected


@pytest.mark.parametrize("match", ["layers[0].*", ["*", "layers[0].*"]])
def test_a_glob_with_brackets_that_matches_nothing_gets_advice(match: Any) -> None:
    with pytest.raises(ValueError, match=r"'layers\[\[\]0\]\.\*' matches brackets"):
        thalweg.AdamW({"layers[0].w": np.ones(2)}, groups=[{"match": match, "lr": 0.5}])

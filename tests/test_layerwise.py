"""`layerwise_lr`: the layer of each parameter, and its learning rate."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import thalweg


def scales(names: list[str], **arguments: Any) -> dict[str, float]:
    params = {name: np.ones(2) for name in names}
    opt = thalweg.AdamW(params, groups=[thalweg.layerwise_lr(**arguments)])
    return {name: opt.resolve(name)["lr_scale"] for name in names}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (
            "layers.{}.*",
            {"layers.0.w": 0.25, "layers.0.b": 0.25, "layers.1.w": 0.5, "layers.2.w": 1.0},
        ),
        # Layers are ordered as numbers: 10 is above 9.
        ("layers.{}.*", {"layers.10.w": 1.0, "layers.9.w": 0.5, "layers.1.w": 0.25}),
        ("layers.{}.*", {"layers.00.w": 0.5, "layers.01.w": 1.0, "layers.1.b": 1.0}),
        # A gap in the numbers is no layer.
        ("net.{}.*", {"net.0.w": 0.25, "net.2.w": 0.5, "net.7.w": 1.0}),
        ("layers.{}.*", {"layers.5.w": 1.0, "head.w": 1.0, "embed": 1.0, "layers.norm.w": 1.0}),
        ("{}.*", {"0.w": 0.5, "1.w": 1.0, "head.2.w": 1.0}),
        ("{}", {"0": 0.5, "1": 1.0, "2.w": 1.0}),
        ("h{}*", {"h1": 0.5, "h10": 1.0, "h1.b": 0.5}),
        ("*.layers.{}.*", {"layers.0.w": 0.5, "encoder.layers.1.w": 1.0, "players.0.w": 1.0}),
        # The outermost number that matches is the layer.
        ("*.{}.*", {"blocks.0.mlp.9.w": 0.5, "blocks.1.mlp.0.w": 1.0}),
        ("blocks.*.mlp.{}.*", {"blocks.7.mlp.0.w": 0.5, "blocks.0.mlp.1.w": 1.0}),
        ("[[]{}].w", {"[0].w": 0.5, "[1].w": 1.0}),
        ("*.{}.w?", {"*.0.w?": 0.5, "*.1.w[": 1.0, "*.0.w": 1.0}),
    ],
)
def test_the_rate_falls_from_layer_to_layer(pattern: str, expected: dict[str, float]) -> None:
    for names in (list(expected), list(expected)[::-1]):
        assert scales(names, pattern=pattern, decay=0.5) == expected


@pytest.mark.parametrize(
    ("below", "expected"),
    [
        (None, [1.0, 1.0, 1.0]),
        ("embed*", [0.25, 0.25, 1.0]),
        ("*.position", [1.0, 0.25, 1.0]),
        (["embed.token", "embed.position"], [0.25, 0.25, 1.0]),
        (lambda name, _: name != "head", [0.25, 0.25, 1.0]),
        ("*", [0.25, 0.25, 0.25]),
    ],
)
def test_below_matches_parameters_below_the_layers(below: Any, expected: list[float]) -> None:
    rest = ["embed.token", "embed.position", "head"]
    got = scales([*rest, "layers.0.w", "layers.1.w"], pattern="layers.{}.*", decay=0.5, below=below)
    assert [got[name] for name in rest] == expected
    assert [got["layers.0.w"], got["layers.1.w"]] == [0.5, 1.0]


def test_scales_are_products_of_the_decay() -> None:
    names = [f"layers.{number}.w" for number in range(24)]
    got = scales(names, pattern="layers.{}.*", decay=0.9)
    assert got["layers.23.w"] == 1.0
    assert all(got[low] == 0.9 * got[high] for low, high in pairwise(names))
    assert set(scales(names, pattern="layers.{}.*", decay=1).values()) == {1.0}


def transformer() -> dict[str, Any]:
    return {
        "embed": np.ones(3),
        "layers": [{"w": np.ones((2, 3)), "b": np.ones(3)} for _ in range(3)],
        "head": np.ones(3),
    }


def gradients(params: Any) -> dict[str, np.ndarray]:
    return {name: np.ones_like(array) for name, array in thalweg.tree.flatten(params).items()}


LAYERWISE = thalweg.layerwise_lr("layers.{}.*", 0.5, below="embed")


def test_a_step_uses_the_rate_of_each_layer() -> None:
    params = transformer()
    thalweg.SGD(params, lr=0.5, groups=[LAYERWISE]).step(gradients(params))
    moved = {name: 1.0 - array.flat[0] for name, array in thalweg.tree.flatten(params).items()}
    assert moved == {
        "embed": 0.0625,
        **{f"layers.{i}.{key}": 0.125 * 2**i for i in range(3) for key in "wb"},
        "head": 0.5,
    }


def test_it_makes_one_group_per_layer_from_input_to_output() -> None:
    opt = thalweg.AdamW(transformer(), groups=[LAYERWISE])
    assert [(group.name, group.lr_scale) for group in opt.groups[1:]] == [
        ("below layers.0.*", 0.125),
        ("layers.0.*", 0.25),
        ("layers.1.*", 0.5),
        ("layers.2.*", 1.0),
    ]
    assert opt.groups[2].names == ("layers.0.w", "layers.0.b")
    opt.groups[2].lr_scale = 0.0
    assert opt.resolve("layers.0.b")["lr_scale"] == 0.0


def test_it_combines_with_other_groups() -> None:
    groups = [
        {"match": "*.w", "lr_scale": 0.5, "weight_decay": 0.2},
        thalweg.no_decay(),
        LAYERWISE,
        {"match": ["layers.*", "embed"], "lr_scale": 0.5},
    ]
    opt = thalweg.AdamW(transformer(), weight_decay=0.1, groups=groups)
    applied = [opt.resolve(name) for name in ("embed", "layers.2.w", "layers.0.b", "head")]
    assert [values["lr_scale"] for values in applied] == [0.0625, 0.25, 0.125, 1.0]
    assert [values["weight_decay"] for values in applied] == [0.0, 0.2, 0.0, 0.0]


def test_state_dicts_and_copies_keep_the_layers() -> None:
    params = transformer()
    opt = thalweg.AdamW(params, groups=[LAYERWISE])
    opt.groups[1].lr_scale = 0.75
    opt.step(gradients(params))

    plain = thalweg.AdamW(transformer())
    with pytest.warns(UserWarning, match="number of groups: 1 -> 5"):
        plain.load_state_dict(opt.state_dict())
    for loaded in (plain, copy.deepcopy(opt)):
        for name in opt.params:
            assert loaded.resolve(name) == opt.resolve(name)


def test_repr_shows_the_arguments() -> None:
    assert repr(LAYERWISE) == "LayerwiseLR(pattern='layers.{}.*', decay=0.5, below='embed')"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"pattern": 3}, TypeError, "pattern"),
        ({"pattern": "layers.*"}, ValueError, r"pattern .*'layers\.\*'"),
        ({"pattern": "a.{}.b.{}"}, ValueError, "pattern"),
        ({"decay": 0.0}, ValueError, "decay .*0.0"),
        ({"decay": 1.5}, ValueError, "decay .*1.5"),
        ({"decay": np.nan}, ValueError, "decay .*nan"),
        ({"decay": "0.9"}, TypeError, "decay .*'0.9'"),
        ({"decay": True}, TypeError, "decay .*True"),
        ({"pattern": "blocks.{}.*"}, ValueError, r"'blocks\.\{\}\.\*'.*embed, layers.0.w"),
        ({"below": "token*"}, ValueError, r"below .*'token\*'"),
        ({"below": 3}, TypeError, "below .*3"),
        ({"below": "layers.0.*"}, ValueError, "below .*layers"),
    ],
)
def test_invalid_arguments_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        scales(["embed", "layers.0.w"], **{"pattern": "layers.{}.*", "decay": 0.9, **arguments})

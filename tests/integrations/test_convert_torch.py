"""`thalweg.convert` and torch: runs continue in the other library; misfits are refused."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

if TYPE_CHECKING:
    from collections.abc import Iterator

from torch_rules import each_converted, in_thalweg, of_arrays  # noqa: E402

import thalweg  # noqa: E402
from conftest import unchanged  # noqa: E402
from thalweg.convert import ConvertReport, from_torch, to_torch  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SHAPES = {"w": (4, 3), "scale": (), "late": (5,)}
each_type = pytest.mark.parametrize("dtype", ["float32", "float64"])
GROUPS = [["w", "scale"], ["late"]]
"""torch's groups; the second has another learning rate."""


def gradients(step: int, dtype: str) -> dict[str, Any]:
    """Gradients of a step; `late` has none in the first eight."""
    rng = np.random.default_rng(step)
    grads = {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}
    return {**grads, "late": grads["late"] if step > 8 else None}


class Theirs:
    """A run of torch's optimizer."""

    def __init__(self, rule: str, options: dict[str, Any], values: dict[str, Any]) -> None:
        self.params = {name: torch.tensor(value) for name, value in values.items()}
        groups: list[dict[str, Any]] = [
            {"params": [self.params[name] for name in names]} for names in GROUPS
        ]
        groups[1]["lr"] = options["lr"] / 2
        self.opt = getattr(torch.optim, rule)(groups, **options)

    def train(self, steps: range, dtype: str) -> Theirs:
        for step in steps:
            for name, grad in gradients(step, dtype).items():
                self.params[name].grad = None if grad is None else torch.tensor(grad)
            self.opt.step()
        return self

    @property
    def values(self) -> dict[str, Any]:
        return {name: param.numpy().copy() for name, param in self.params.items()}


class Ours:
    """A run of thalweg's optimizer with the same options."""

    def __init__(self, rule: str, options: dict[str, Any], values: dict[str, Any]) -> None:
        self.opt = of_arrays(rule)(
            copy.deepcopy(values),
            **in_thalweg(rule, options),
            groups=[{"match": "late", "lr_scale": 0.5}],
        )

    def train(self, steps: range, dtype: str) -> Ours:
        for step in steps:
            self.opt.step(gradients(step, dtype))
        return self

    @property
    def values(self) -> dict[str, Any]:
        return {name: array.copy() for name, array in self.opt.params.items()}


def start(dtype: str) -> dict[str, Any]:
    rng = np.random.default_rng(123)
    return {name: np.array(rng.normal(size=s), dtype) for name, s in SHAPES.items()}


def assert_close(one: dict[str, Any], other: dict[str, Any], dtype: str) -> None:
    eps = float(np.finfo(dtype).eps)
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=15 * eps, atol=15 * eps)


@pytest.mark.parametrize("before", [0, 3, 12])
@each_type
@each_converted
def test_a_run_of_torch_continues_in_thalweg(
    rule: str, options: dict[str, Any], dtype: str, before: int
) -> None:
    theirs = Theirs(rule, options, start(dtype)).train(range(1, before + 1), dtype)
    ours = Ours(rule, options, theirs.values)
    report = from_torch(theirs.opt.state_dict(), ours.opt, params=GROUPS)
    assert isinstance(report, ConvertReport)
    assert (report.names, report.changed) == (("w", "scale", "late"), {})
    rest = range(before + 1, before + 16)
    assert_close(ours.train(rest, dtype).values, theirs.train(rest, dtype).values, dtype)
    if rule != "SGD":
        assert [leaf["step"] for leaf in ours.opt.state.values()] == [
            before + 15,
            before + 15,
            before + 7,
        ]
        assert ours.opt.step_count == before + 15


@pytest.mark.parametrize("before", [0, 3, 12])
@each_type
@each_converted
def test_a_run_of_thalweg_continues_in_torch(
    rule: str, options: dict[str, Any], dtype: str, before: int
) -> None:
    ours = Ours(rule, options, start(dtype)).train(range(1, before + 1), dtype)
    theirs = Theirs(rule, {**options, "lr": 7.0}, ours.values)
    theirs.opt.load_state_dict(to_torch(ours.opt))
    rest = range(before + 1, before + 16)
    assert_close(theirs.train(rest, dtype).values, ours.train(rest, dtype).values, dtype)


@pytest.mark.parametrize("tensors", [True, False])
@each_type
@each_converted
def test_a_round_trip_has_the_same_bits(
    rule: str, options: dict[str, Any], dtype: str, *, tensors: bool
) -> None:
    theirs = Theirs(rule, options, start(dtype)).train(range(1, 6), dtype)
    saved = theirs.opt.state_dict()
    ours = Ours(rule, options, theirs.values)
    from_torch(saved, ours.opt, params=GROUPS)
    back = to_torch(ours.opt, tensors=tensors)
    assert back["state"].keys() == saved["state"].keys()
    for i, entry in saved["state"].items():
        assert back["state"][i].keys() == entry.keys()
        for key, tensor in entry.items():
            array = back["state"][i][key]
            assert isinstance(array, torch.Tensor if tensors else np.ndarray)
            assert np.array_equal(np.asarray(array), tensor.numpy())
            assert np.asarray(array).dtype == tensor.numpy().dtype
    for ours_now, before in zip(back["param_groups"], saved["param_groups"], strict=True):
        assert ours_now.keys() - before.keys() == {"param_names"}
        assert {key: ours_now[key] for key in before} == before


@each_converted
def test_thalweg_to_thalweg_through_torch_has_the_same_bits(
    rule: str, options: dict[str, Any]
) -> None:
    one = Ours(rule, options, start("float32")).train(range(1, 11), "float32")
    other = Ours(rule, {**options, "lr": 3.0}, one.values)
    with pytest.warns(UserWarning, match="loading changes hyperparameters"):
        report = from_torch(to_torch(one.opt), other.opt, step_count=10)
    assert report.changed["groups[0].lr"] == (3.0, options["lr"])
    rest = range(11, 20)
    one.train(rest, "float32"), other.train(rest, "float32")
    for name, value in one.values.items():
        assert np.array_equal(value, other.values[name])


def simple(**options: Any) -> thalweg.AdamW:
    params = {"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}
    opt = thalweg.AdamW(params, **options)
    opt.step({"w": np.ones((2, 3)), "b": np.arange(3.0)})
    return opt


def fresh(**options: Any) -> thalweg.AdamW:
    return thalweg.AdamW(
        {"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}, **options
    )


def test_parameters_of_equal_hyperparameters_are_one_group_in_torch() -> None:
    params = {name: np.ones(2) for name in ("a", "b", "c", "d")}
    groups: list[dict[str, Any]] = [
        {"match": ["b", "d"], "weight_decay": 0.0},
        {"match": "c", "lr_scale": 1.0},
        {"match": "d", "lr_scale": 0.1},
    ]
    opt = thalweg.AdamW(params, lr=0.5, groups=groups)
    saved = to_torch(opt)["param_groups"]
    assert [group["param_names"] for group in saved] == [["a", "c"], ["b"], ["d"]]
    assert [group["params"] for group in saved] == [[0, 1], [2], [3]]
    assert [(group["lr"], group["weight_decay"]) for group in saved] == [
        (0.5, 0.01),
        (0.5, 0.0),
        (0.5 * 0.1, 0.0),
    ]


def test_params_sets_order_and_groups() -> None:
    opt = simple()
    saved = to_torch(opt, params=["b", "w"])
    assert saved["param_groups"][0]["param_names"] == ["b", "w"]
    assert np.array_equal(saved["state"][0]["exp_avg"], opt.state["b"]["exp_avg"])
    two = to_torch(opt, params=[["b"], ["w"]])
    assert [group["params"] for group in two["param_groups"]] == [[0], [1]]


def test_a_schedule_is_converted_to_its_value_at_the_last_step() -> None:
    opt = fresh(lr=lambda step: 0.5**step)
    assert to_torch(opt)["param_groups"][0]["lr"] == 0.5
    for _ in range(3):
        opt.step({"w": np.ones((2, 3)), "b": np.ones(3)})
    assert to_torch(opt)["param_groups"][0]["lr"] == 0.125


def test_the_result_is_a_contiguous_copy_of_the_right_type() -> None:
    w = np.asfortranarray(np.ones((2, 3)))
    opt = thalweg.AdamW({"w": w})
    opt.step({"w": np.ones((2, 3))})
    saved = to_torch(opt, tensors=False)
    assert saved["state"][0]["exp_avg"].flags.c_contiguous
    saved["state"][0]["exp_avg"][...] = 7
    assert opt.state["w"]["exp_avg"][0, 0] == pytest.approx(0.1)


def test_large_step_counts_are_exact() -> None:
    saved = to_torch(simple())
    for step in (2**24, 2**24 + 1, 2**40 + 1):
        for kind in (int, float, np.int64, lambda s: torch.tensor(s, dtype=torch.float64)):
            for entry in saved["state"].values():
                entry["step"] = kind(step)
            opt = fresh()
            assert from_torch(saved, opt).step == step
            assert int(to_torch(opt)["state"][0]["step"]) == step


def test_tensors_are_made_only_if_torch_is_imported() -> None:
    code = """
import sys
import numpy as np, thalweg
opt = thalweg.AdamW(np.ones(2))
opt.step(np.ones(2))
print(type(thalweg.convert.to_torch(opt)["state"][0]["exp_avg"]).__name__, "torch" in sys.modules)
sys.modules["torch"] = None
try:
    thalweg.convert.to_torch(opt, tensors=True)
except ImportError as error:
    print(error)
"""
    said = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert said == "ndarray False\ntensors=True needs PyTorch: pip install 'thalweg[torch]'\n"
    assert isinstance(to_torch(simple())["state"][0]["exp_avg"], torch.Tensor)


def test_transpose_swaps_the_axes_of_matrices() -> None:
    opt = simple()
    opt.state["w"]["exp_avg"][...] = np.arange(6.0).reshape(2, 3)
    saved = to_torch(opt, transpose="w")
    assert saved["state"][0]["exp_avg"].shape == (3, 2)
    assert saved["state"][0]["exp_avg"].is_contiguous()
    other = fresh()
    message = r"'w' has shape \(2, 3\) here and \(3, 2\) in torch; transpose='w' swaps the axes"
    with unchanged(other), pytest.raises(ValueError, match=message):
        from_torch(saved, other)
    from_torch(saved, other, transpose="w")
    assert np.array_equal(other.state["w"]["exp_avg"], opt.state["w"]["exp_avg"])
    with pytest.raises(
        ValueError, match=r"transpose must match matrices only, got 'b' of shape \(3,\)"
    ):
        to_torch(opt, transpose="*")


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_types_of_less_precision_are_exact_in_more(half: str) -> None:
    saved = to_torch(simple())
    wanted = torch.tensor([[1.0, -0.0, 3e-5], [65504.0, 0.1, 7.0]]).to(getattr(torch, half))
    saved["state"][0]["exp_avg"] = wanted
    opt = fresh()
    from_torch(saved, opt)
    assert np.array_equal(opt.state["w"]["exp_avg"], wanted.float().numpy())


def test_conjugate_and_transposed_tensors_are_read_correctly() -> None:
    saved, opt = to_torch(simple()), fresh()
    negated = torch.view_as_complex(torch.ones(2, 3, 2)).conj().imag
    saved["state"][0]["exp_avg"] = negated
    saved["state"][0]["exp_avg_sq"] = torch.nn.Parameter(torch.ones(3, 2)).T
    from_torch(saved, opt)
    assert (opt.state["w"]["exp_avg"] == -1).all()
    assert (opt.state["w"]["exp_avg_sq"] == 1).all()


def test_types_of_more_precision_are_accepted_where_that_is_exact() -> None:
    saved = to_torch(simple())
    opt = fresh()
    saved["state"][0]["exp_avg"] = torch.full((2, 3), 0.25, dtype=torch.float64)
    from_torch(saved, opt)
    assert (opt.state["w"]["exp_avg"] == 0.25).all()
    saved["state"][0]["exp_avg"] = torch.full((2, 3), 0.1, dtype=torch.float64)
    message = r"exp_avg of 'w': saved float64 \(2, 3\), here float32 \(2, 3\)"
    with unchanged(opt), pytest.raises(ValueError, match=message):
        from_torch(saved, opt)


def test_names_saved_by_torch_are_used() -> None:
    module = torch.nn.ParameterDict({"b": torch.zeros(3), "w": torch.ones(2, 3)})
    theirs = torch.optim.AdamW(module.named_parameters(), lr=0.25)
    for p in module.parameters():
        p.grad = torch.ones_like(p)
    theirs.step()
    opt = fresh(lr=0.25)
    assert from_torch(theirs.state_dict(), opt).names == ("b", "w")
    assert opt.state["b"]["step"] == 1


def test_without_names_parameters_match_by_order() -> None:
    saved = to_torch(simple())
    del saved["param_groups"][0]["param_names"]
    opt = fresh()
    assert from_torch(saved, opt).names == ("w", "b")
    saved["param_groups"][0]["param_names"] = ["b", "other"]
    with unchanged(opt), pytest.raises(ValueError, match=r"param_names have 'b' where .* has 'w'"):
        from_torch(saved, opt)
    saved["param_groups"][0]["param_names"] = ["weight", "b"]
    assert from_torch(saved, opt).names == ("w", "b")
    saved["param_groups"][0]["param_names"] = ["b", "b"]
    with unchanged(opt), pytest.raises(ValueError, match="param_names must be different, got b, b"):
        from_torch(saved, opt)
    two = to_torch(simple(groups=[{"match": "b", "lr_scale": 2.0}]))
    for group in two["param_groups"]:
        del group["param_names"]
    with (
        unchanged(opt),
        pytest.raises(ValueError, match="torch has 2 groups, which may be in another order"),
    ):
        from_torch(two, opt)


def test_saved_hyperparameters_are_loaded() -> None:
    saved = to_torch(simple(lr=0.5, groups=[{"match": "b", "lr_scale": 0.5, "eps": 1e-4}]))
    saved["param_groups"][1]["lr"] = torch.tensor(0.25)
    saved["param_groups"][1]["betas"] = [torch.tensor(0.5), torch.tensor(0.75)]
    opt = fresh(lr=lambda step: 1.0 / step)
    with pytest.warns(UserWarning, match=r"groups\[0\].lr: .* -> 0.5"):
        from_torch(saved, opt)
    assert [group.names for group in opt.groups] == [("w", "b"), ("b",)]
    assert opt.resolve("w")["lr"] == 0.5
    assert opt.groups[1].keys() == ["lr", "betas", "eps"]
    assert [opt.resolve("b")[key] for key in ("lr", "betas", "eps")] == [0.25, (0.5, 0.75), 1e-4]
    other = fresh(lr=0.125)
    assert from_torch(saved, other, hyperparameters="current").changed == {}
    assert other.lr == 0.125
    assert len(other.groups) == 1


def test_groups_with_equal_hyperparameters_are_kept() -> None:
    opt = fresh(lr=0.3, groups=[{"match": "b", "lr_scale": 0.1, "weight_decay": 0.0}])
    from_torch(to_torch(opt), opt)
    assert opt.groups[1].keys() == ["lr_scale", "weight_decay"]
    assert opt.groups[1].match == "b"


def test_frozen_parameters_stay_frozen() -> None:
    frozen = [{"match": "b", "frozen": True}]
    trained = simple(lr=0.5)
    trained.groups[0].lr = 0.25
    saved = to_torch(trained)
    opt = fresh(groups=frozen)
    with pytest.warns(UserWarning, match="lr"):
        from_torch(saved, opt)
    assert opt.resolve("b")["frozen"]
    assert opt.state["b"]["step"] == 1  # its state is kept in case it is thawed
    assert to_torch(opt)["param_groups"][0]["param_names"] == ["w", "b"]
    never = fresh(groups=frozen)
    assert to_torch(never)["param_groups"][0]["param_names"] == ["w"]
    assert to_torch(never, params=["b", "w"])["param_groups"][0]["params"] == [0, 1]


def test_entries_without_a_counterpart_are_listed() -> None:
    saved = to_torch(simple())
    saved["param_groups"][0] |= {"fused": True, "initial_lr": 0.1, "foreach": None}
    report = from_torch(saved, fresh())
    assert report.ignored == {"param_groups[0].fused": True, "param_groups[0].initial_lr": 0.1}


def test_sums_and_averages_are_kept() -> None:
    saved = to_torch(simple())
    opt = fresh()
    ema = thalweg.EMA(opt, decay=0.9)
    ema.update()
    from_torch(saved, opt)
    assert ema.state_dict()["step_count"] == 1
    assert opt.state["w"]["step"] == 1


def test_decay_of_the_other_kind_is_refused_unless_zero() -> None:
    params = {"w": torch.ones(2, 3), "b": torch.zeros(3)}
    for rule, decay, ours, fits in (
        ("AdamW", 0.1, thalweg.Adam, False),
        ("Adam", 0.1, thalweg.AdamW, False),
        ("Adam", 0.0, thalweg.AdamW, True),
        ("AdamW", 0.0, thalweg.Adam, True),
    ):
        saved = getattr(torch.optim, rule)(params.values(), weight_decay=decay).state_dict()
        opt = ours(fresh()._held.tree)
        if fits:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from_torch(saved, opt)
            assert opt.resolve("w")[opt.rule.decay] == 0.0
            continue
        message = f"rule: saved '{rule}', here '{opt.rule.name}'"
        with unchanged(opt), pytest.raises(ValueError, match=message):
            from_torch(saved, opt)
        from_torch(saved, opt, hyperparameters="current")


def test_independent_decay_is_refused() -> None:
    saved, opt = to_torch(simple()), fresh(weight_decay=1e-3, independent=True)
    with unchanged(opt), pytest.raises(ValueError, match="independent: saved False, here True"):
        from_torch(saved, opt)


def spoiled(change: Any) -> Any:
    saved = to_torch(simple())
    return change(saved) or saved


def by_name(saved: Any) -> Any:
    """The state dict with names as keys, as in FSDP and distributed checkpoints."""
    keys = ["w", "b"]
    groups = [{**g, "params": [keys[key] for key in g["params"]]} for g in saved["param_groups"]]
    groups[0].pop("param_names")
    state = {keys[key]: saved["state"][key] for key in reversed([*saved["state"]])}
    return {"state": state, "param_groups": groups}


def flattened(saved: Any) -> Any:
    state = {
        f"state.{n}.{key}": v for n, entry in saved["state"].items() for key, v in entry.items()
    }
    groups = {
        f"param_groups.{name}.{key}": value
        for group in saved["param_groups"]
        for name in reversed(group["params"])
        for key, value in group.items()
        if key != "params"
    }
    return {**state, **groups}


@pytest.mark.parametrize("flat", [False, True], ids=["whole", "flat"])
@pytest.mark.parametrize("groups", [1, 2])
def test_state_dicts_with_names_as_keys_are_read(groups: int, flat: bool) -> None:
    apart: list[Any] = [{"match": "b", "lr": 0.5}] if groups == 2 else []
    source = simple(groups=apart)
    saved = by_name(to_torch(source))
    opt = fresh(groups=apart)
    report = from_torch(flattened(saved) if flat else saved, opt)
    assert sorted(report.names) == ["b", "w"]
    assert len(saved["param_groups"]) == groups
    for name in ("w", "b"):
        assert opt.resolve(name)["lr"] == source.resolve(name)["lr"]
        assert np.array_equal(opt.state[name]["exp_avg"], source.state[name]["exp_avg"])
        assert opt.state[name]["step"] == 1


def test_unknown_names_are_refused_with_advice() -> None:
    saved = by_name(to_torch(simple()))
    opt = thalweg.AdamW({"v": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)})
    message = "names that 'w', 'b' have here, in this order, as params=.*\n- 'w' is not a parameter"
    with unchanged(opt), pytest.raises(ValueError, match=message):
        from_torch(saved, opt)
    assert from_torch(saved, opt, params=["v", "b"]).names == ("v", "b")


@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda s: {"model": {}, "optimizer": s, "epoch": 3}, r'pass checkpoint\["optimizer"\]$'),
        (lambda s: {"optimizer_states": [s]}, r'pass checkpoint\["optimizer_states"\]\[0\]$'),
        (lambda s: {"o": flattened(by_name(s))}, r'pass checkpoint\["o"\]$'),
    ],
)
def test_a_whole_checkpoint_is_refused_naming_the_entry_to_load(wrap: Any, place: str) -> None:
    opt = fresh()
    with unchanged(opt), pytest.raises(ValueError, match=place):
        from_torch(wrap(to_torch(simple())), opt)


REFUSED: list[tuple[Any, str]] = [
    (lambda _: 3, "state_dict must be the state dict of .*, got int"),
    (lambda s: {"optimizer": s}, "must have 'state' and 'param_groups', got 'optimizer'"),
    (lambda _: simple().state_dict(), "must have 'state' and 'param_groups', got 'format'"),
    (lambda s: {**s, "param_groups": []}, "not a state dict of torch.optim"),
    (lambda s: s["param_groups"][0].update(params=3), "not a state dict of torch.optim"),
    (lambda s: s["param_groups"][0].update(betas=0.9), "not a state dict of torch.optim"),
    (lambda s: s["param_groups"][0].__delitem__("eps"), "param_groups.0. has lr, "),
    (lambda s: s["param_groups"][0].update(amsgrad=True), "option amsgrad: saved True, here False"),
    (lambda s: s["param_groups"][0].update(maximize=True), "option maximize: saved True"),
    (lambda s: s["param_groups"][0].update(lr=-1.0), r"groups\[0\].lr: lr must be finite"),
    (lambda s: s["param_groups"][0].update(eps=0.0), "eps"),
    (lambda s: s["param_groups"][0].update(params=[0, 0]), "parameter 0 is in param_groups twice"),
    (
        lambda s: s["state"].update({7: {}}),
        "unexpected: state of parameter 7, which is in no group",
    ),
    (lambda s: s["state"][0].__delitem__("exp_avg"), r"state of 'w': saved \['exp_avg_sq'\]"),
    (lambda s: s["state"][0].update(other=torch.ones(2, 3)), "'other'"),
    (
        lambda s: s["state"][0].update(exp_avg=torch.ones(7)),
        r"exp_avg of 'w': saved float32 \(7,\)",
    ),
    (lambda s: s["state"][0].update(exp_avg=1.0), "exp_avg of 'w': saved float, must be an array"),
    (lambda s: s["state"][0].update(exp_avg=np.ma.zeros((2, 3))), "a masked array; fill it"),
    (lambda s: s["state"][0].update(exp_avg=torch.ones(2, 3, dtype=torch.int64)), "saved int64"),
    (
        lambda s: s["state"][0].update(exp_avg=torch.ones(2, 3, device="meta")),
        "saved torch.Tensor, must be convertible to an ndarray",
    ),
    (
        lambda s: s["state"][0].update(exp_avg=torch.ones(2, 3).to_sparse()),
        "saved torch.Tensor, must be convertible to an ndarray",
    ),
    (
        lambda s: s["state"][0].update(step=torch.tensor(-1.0)),
        "step must be a whole number .*, got -1",
    ),
    (
        lambda s: s["state"][0].update(step=torch.tensor(0.5)),
        "step must be a whole number .*, got 0.5",
    ),
    (lambda s: s["state"][0].update(step=float("nan")), "step must be a whole number .*, got nan"),
    (
        lambda s: s["state"][0].update(step=2.0**63),
        "step must be a whole number .*, got 9223372036854775808",
    ),
    (
        lambda s: s["state"][0].update(step=torch.ones(2)),
        r"step must be a whole number .*, got \[1.0, 1.0\]",
    ),
    (lambda s: s["param_groups"][0].update(lr=torch.ones(2)), r"got \[1.0, 1.0\] of type list"),
    (lambda s: s["param_groups"][0].update(lr=torch.ones((), device="meta")), "of type str"),
    (lambda s: s["param_groups"][0].update(lr=np.ma.ones(1)), "of type str"),
    (lambda s: s["param_groups"][0].update(betas=(0.9, None)), "got None of type NoneType"),
    (lambda s: s["state"][0].update(step=True), "step must be a whole number .*, got True"),
    (lambda s: s["state"][0].__delitem__("step"), "step must be a whole number .*, got None"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_a_state_dict_that_does_not_fit_changes_nothing(change: Any, message: str) -> None:
    opt = simple(lr=0.7)
    with unchanged(opt), pytest.raises((ValueError, TypeError), match=message):
        from_torch(spoiled(change), opt)


def test_all_differences_are_listed() -> None:
    saved = to_torch(simple())
    saved["param_groups"][0] |= {"lr": -1.0, "eps": -1.0}
    saved["state"][0]["exp_avg"] = torch.ones(7)
    saved["state"][1]["step"] = 0.5
    saved["state"][9] = {}
    opt = fresh()
    with unchanged(opt), pytest.raises(ValueError, match="nothing was loaded") as error:
        from_torch(saved, opt)
    assert len(str(error.value).splitlines()) == 6
    report = from_torch(saved, opt, strict=False)
    assert len(report.mismatched) == 5
    assert opt.lr == 1e-3


def test_states_of_other_rules_are_refused() -> None:
    params = [torch.ones(2, 3, requires_grad=True), torch.zeros(3, requires_grad=True)]
    opt = fresh()
    for rule in ["NAdam", "Adamax", "ASGD", "Rprop", "Adadelta"]:
        saved = getattr(torch.optim, rule)(params).state_dict()
        with unchanged(opt), pytest.raises(ValueError, match="not a state dict of torch's AdamW"):
            from_torch(saved, opt)
    for rule in ["RAdam", "RMSprop", "Adagrad", "SGD"]:
        saved = getattr(torch.optim, rule)(params).state_dict()
        with unchanged(opt), pytest.raises(ValueError, match=rf"rule: saved '{rule}W?', here"):
            from_torch(saved, opt)
    rectified = torch.optim.RAdam(params, weight_decay=0.1).state_dict()
    opt = thalweg.RAdamW(fresh().params)
    with unchanged(opt), pytest.raises(ValueError, match="rule: saved 'RAdam', here 'RAdamW'"):
        from_torch(rectified, opt)


def test_the_sum_of_adagrad_begins_with_the_number_of_its_group() -> None:
    params = [torch.ones(2, 3, requires_grad=True), torch.zeros(3, requires_grad=True)]
    saved = torch.optim.Adagrad(params, initial_accumulator_value=0.3).state_dict()
    opt = thalweg.Adagrad(fresh().params, initial_accumulator_value=0.3)
    from_torch(saved, opt)
    assert [leaf["step"] for leaf in opt.state.values()] == [0, 0]
    for i, entry in to_torch(opt)["state"].items():
        assert torch.equal(entry["sum"], saved["state"][i]["sum"])
    saved["state"][1]["sum"][2] = 0.5
    with (
        unchanged(opt),
        pytest.raises(
            ValueError, match=r"sum of 'b': at step 0 it must be initial_accumulator_value, 0\.3"
        ),
    ):
        from_torch(saved, opt)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("wb", "params must be a list of names"),
        ([], "params must be a list of names"),
        (["w", 3], "params must be a list of names"),
        ([["w"], "b"], "params must be a list of names"),
        (["w"], r"groups of \[2\] names, as torch has, got 1"),
        ([["w"], ["b"]], r"groups of \[2\] names, as torch has, got \[1, 1\]"),
        (["w", "w"], "'w' occurs 2 times"),
        (["w", "bb"], "'bb' is not a parameter; did you mean 'b'"),
    ],
)
def test_wrong_params_are_refused(params: Any, message: str) -> None:
    opt, saved = simple(), to_torch(simple())
    with unchanged(opt), pytest.raises((TypeError, ValueError), match=message):
        from_torch(saved, opt, params=params)


def test_the_argument_hyperparameters_is_checked() -> None:
    opt, saved = simple(), to_torch(simple())
    with unchanged(opt), pytest.raises(ValueError, match="must be 'saved' or 'current'"):
        from_torch(saved, opt, hyperparameters="mine")  # type: ignore[arg-type]  # that is the test


def test_another_number_of_parameters_is_refused() -> None:
    saved = to_torch(simple(), params=["w", "b"])
    saved["param_groups"][0]["params"] = [0]
    del saved["param_groups"][0]["param_names"]
    opt = fresh()
    with (
        unchanged(opt),
        pytest.raises(
            ValueError, match="the state dict has 1 parameters, the optimizer has 2, of which 2"
        ),
    ):
        from_torch(saved, opt)
    with unchanged(opt), pytest.raises(ValueError, match="missing: 'b'"):
        from_torch(saved, opt, params=["w"])


def test_options_without_a_counterpart_in_torch_are_refused() -> None:
    params = {"w": np.ones(2), "b": np.ones(1)}
    sgdw = thalweg.SGDW(params, lr=0.1)
    with pytest.raises(ValueError, match=r"torch.optim has no SGDW"):
        to_torch(sgdw)
    with pytest.raises(ValueError, match="independent=True has no counterpart"):
        to_torch(thalweg.AdamW(params, weight_decay=0.1, independent=True))
    opt = thalweg.AdamW(params, groups=[{"match": "b", "lr_scale": 0.5}])
    with pytest.raises(
        ValueError, match=r"'w' and 'b' in one group must have the same lr, got 0.001 and 0.0"
    ):
        to_torch(opt, params=["w", "b"])
    with pytest.raises(ValueError, match="missing: 'b'"):
        to_torch(opt, params=["w"])
    with pytest.raises(TypeError, match=r"tensors must be True, False or None, got 'yes'"):
        to_torch(opt, tensors="yes")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(TypeError, match=r"opt must be one of thalweg.AdamW"):
        to_torch(params)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(ValueError, match="lr must be finite and at least 0, got -1"):
        to_torch(thalweg.AdamW(params, lr=lambda _: -1.0))


def test_a_momentum_buffer_tells_a_started_run_from_a_fresh_one() -> None:
    options = {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}
    w = torch.ones(2)
    theirs = torch.optim.SGD([w], **options)
    for buffer, step in ((None, 0), (torch.ones(2), 1)):
        saved = theirs.state_dict()
        saved["state"] = {0: {"momentum_buffer": buffer}}
        opt = thalweg.SGD(np.ones(2, np.float32), **options)
        assert from_torch(saved, opt).step == step
        assert opt.state["0"]["step"] == step
        assert from_torch(saved, opt, step_count=10).step == 10
        assert opt.state["0"]["step"] == 10 * step
    plain = thalweg.SGD(np.ones(2, np.float32), lr=0.1)
    with unchanged(plain), pytest.raises(ValueError, match=r"saved .'momentum_buffer'., here .."):
        from_torch(saved, plain)
    assert from_torch(torch.optim.SGD([w], lr=0.1).state_dict(), plain, step_count=7).step == 7
    assert plain.state["0"]["step"] == plain.step_count == 7
    with unchanged(plain), pytest.raises(ValueError, match="step_count must be"):
        from_torch(saved, plain, step_count=-1)

"""Steps of `thalweg.torch` have the bits of thalweg and follow the rules of torch."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

if TYPE_CHECKING:
    from collections.abc import Iterator

from torch_rules import each_class, each_counted, has_counterpart, in_thalweg, of_arrays  # noqa: E402

import thalweg  # noqa: E402
import thalweg.torch  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small tensors are faster on one thread, above all next to other programs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SHAPES = {"body.w": (7, 5), "body.b": (5,), "head": (5, 3, 2), "bias": ()}

ADAMS = [
    ("Adam", {"weight_decay": decay, "amsgrad": amsgrad, "maximize": maximize})
    for decay in (0.0, 0.1)
    for amsgrad in (False, True)
    for maximize in (False, True)
]
RULES: list[tuple[str, dict[str, Any]]] = [
    *ADAMS,
    *(("AdamW", options) for _, options in ADAMS),
    ("Adam", {"betas": (0.5, 0.7), "eps": 1e-3}),
    *(
        ("SGD", {"weight_decay": decay, "maximize": maximize, **momentum})
        for decay in (0.0, 0.1)
        for maximize in (False, True)
        for momentum in (
            {},
            {"momentum": 0.9},
            {"momentum": 0.9, "dampening": 0.3},
            {"momentum": 0.9, "nesterov": True},
            {"momentum": 1},
        )
    ),
    *(
        ("RAdam", {"weight_decay": decay, "maximize": maximize, **options})
        for decay in (0.0, 0.1)
        for maximize in (False, True)
        for options in ({"decoupled_weight_decay": True}, {"betas": (0.5, 0.7), "eps": 1e-3})
    ),
    *(
        ("RMSprop", {"weight_decay": decay, "maximize": maximize, "centered": centered, **options})
        for decay in (0.0, 0.1)
        for maximize in (False, True)
        for centered in (False, True)
        for options in ({}, {"momentum": 0.9}, {"alpha": 0.7, "eps": 1e-3})
    ),
    *(
        ("Adagrad", {"weight_decay": decay, "maximize": maximize, **options})
        for decay in (0.0, 0.1)
        for maximize in (False, True)
        for options in ({}, {"lr_decay": 0.1, "initial_accumulator_value": 0.3, "eps": 1e-3})
    ),
]
IDS = [f"{rule} {' '.join(f'{k}={v}' for k, v in options.items())}" for rule, options in RULES]


def parameters(dtype: Any = torch.float32, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
        for name, shape in SHAPES.items()
    }


def gradients(step: int, dtype: Any = torch.float32) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1000 + step)
    return {
        name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in SHAPES.items()
    }


def give(params: dict[str, Any], grads: dict[str, Any]) -> None:
    for name, param in params.items():
        param.grad = grads[name].clone()


def named(params: dict[str, Any]) -> dict[str, Any]:
    """A parameter group with names; also works in a torch without named parameters."""
    return {"params": [*params.values()], "param_names": [*params]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("rule", "options"),
    [
        pytest.param(*case, id=i)
        for case, i in zip(RULES, IDS, strict=True)
        if has_counterpart(*case)
    ],
)
def test_steps_have_the_bits_of_thalweg(rule: str, options: dict[str, Any], dtype: Any) -> None:
    params = parameters(dtype)
    arrays = {name: param.detach().numpy().copy() for name, param in params.items()}
    opt = getattr(thalweg.torch, rule)([named(params)], lr=0.05, **options)
    plain = of_arrays(rule)(arrays, lr=0.05, **in_thalweg(rule, options))
    for step in range(10):
        grads = gradients(step, dtype)
        give(params, grads)
        opt.step(max_norm=3.0 if step % 2 else None)
        report = plain.step(
            {name: grad.numpy() for name, grad in grads.items()},
            max_norm=3.0 if step % 2 else None,
        )
        assert opt.report == report
    for name, param in params.items():
        assert np.array_equal(param.detach().numpy(), arrays[name])
        live = dict(plain.state[name])
        if rule == "SGD":
            live.pop("step")  # torch's SGD keeps no step count
        assert opt.state.get(param, {}).keys() == live.keys()
        assert all(np.array_equal(opt.state[param][key], value) for key, value in live.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("rule", "options"), RULES, ids=IDS)
def test_steps_are_close_to_those_of_torch(rule: str, options: dict[str, Any], dtype: Any) -> None:
    ours, theirs = parameters(dtype), parameters(dtype)
    opt = getattr(thalweg.torch, rule)(ours.values(), lr=0.01, **options)
    other = getattr(torch.optim, rule)(theirs.values(), lr=0.01, **options)
    for step in range(50):
        grads = gradients(step, dtype)
        for params, optimizer in ((ours, opt), (theirs, other)):
            give(params, grads)
            optimizer.step()
    # In each step, both libraries round the parameter by up to half a unit in the last place. The
    # errors of the much smaller update are negligible. So 50 steps may differ by 50 units.
    limit = 50 * torch.finfo(dtype).eps
    for mine, its in zip(ours.values(), theirs.values(), strict=True):
        assert ((mine - its).abs() <= limit * its.abs().clamp(min=1)).all()
        assert (mine != parameters(dtype)["bias"]).all()  # the parameters have moved


POSITIONAL = {
    "Adam": (3e-3, (0.8, 0.9), 1e-6, 0.2, True),
    "AdamW": (3e-3, (0.8, 0.9), 1e-6, 0.2, True),
    "SGD": (3e-3, 0.9, 0.0, 0.2, True),
    "RAdam": (3e-3, (0.8, 0.9), 1e-6, 0.2, True),
    "RMSprop": (3e-3, 0.8, 1e-6, 0.2, 0.5, True, False, True, True),
    "Adagrad": (3e-3, 0.1, 0.2, 0.3, 1e-6, True),
}
"""Arguments behind the parameters, in torch's order."""


@each_class
def test_arguments_and_defaults_are_those_of_torch(rule: str) -> None:
    ours = getattr(thalweg.torch, rule)(parameters().values())
    theirs = getattr(torch.optim, rule)(parameters().values())
    new = {"decoupled_weight_decay"}  # in torch since 2.6
    assert {**theirs.defaults, **{key: ours.defaults[key] for key in new & {*ours.defaults}}} == (
        ours.defaults
    )
    more = {"fused": True} if rule in ("Adam", "AdamW", "SGD") else {}
    ours = getattr(thalweg.torch, rule)(parameters().values(), *POSITIONAL[rule], **more)
    theirs = getattr(torch.optim, rule)(parameters().values(), *POSITIONAL[rule], **more)
    assert {key: ours.defaults[key] for key in theirs.defaults} == theirs.defaults


@each_class
def test_signatures_are_those_of_torch_and_end_with_keywords(rule: str) -> None:
    mine, its = (
        inspect.signature(getattr(library, rule)).parameters.values()
        for library in (thalweg.torch, torch.optim)
    )
    forms = [
        [(p.name, p.kind, p.default) for p in params if p.name in {p.name for p in its}]
        for params in (mine, its)
    ]
    assert forms[0] == forms[1]
    added = [p for p in mine if p.name not in {p.name for p in its}]
    assert all(p.kind is p.KEYWORD_ONLY for p in added)


def test_adam_decouples_the_decay_if_asked() -> None:
    ours, theirs = parameters(), parameters()
    opt = thalweg.torch.Adam(ours.values(), weight_decay=0.1, decoupled_weight_decay=True)
    other = thalweg.torch.AdamW(theirs.values(), weight_decay=0.1)
    for params, optimizer in ((ours, opt), (theirs, other)):
        give(params, gradients(0))
        optimizer.step()
    assert all(torch.equal(ours[name], theirs[name]) for name in SHAPES)


def test_groups_may_have_different_hyperparameters() -> None:
    params, arrays = parameters(), {k: v.detach().numpy().copy() for k, v in parameters().items()}
    groups = [
        {"params": [params["body.w"], params["head"]]},
        {"params": [params["body.b"]], "weight_decay": 0.0, "betas": (0.5, 0.99)},
        {"params": [params["bias"]], "lr": torch.tensor(0.5, dtype=torch.float64)},
    ]
    opt = thalweg.torch.AdamW(groups, lr=0.05)
    plain = thalweg.AdamW(
        arrays,
        lr=0.05,
        groups=[
            {"match": "body.b", "lr": 0.05, "weight_decay": 0.0, "betas": (0.5, 0.99)},
            {"match": "bias", "lr": 0.5},
        ],
    )
    for step in range(3):
        grads = gradients(step)
        give(params, grads)
        opt.step()
        plain.step({name: grad.numpy() for name, grad in grads.items()})
        opt.param_groups[0]["lr"] = plain.lr = 0.01  # edited between steps
    assert all(np.array_equal(params[name].detach(), arrays[name]) for name in SHAPES)


GROUPS: dict[str, dict[str, Any]] = {
    "RAdam": {"betas": (0.5, 0.9), "weight_decay": 0.2, "decoupled_weight_decay": True},
    "RMSprop": {"alpha": 0.5, "eps": 1e-4, "momentum": 0.9, "maximize": True},
    "Adagrad": {"lr_decay": 0.5, "eps": 1e-4, "weight_decay": 0.2, "maximize": True},
}


@pytest.mark.parametrize("rule", GROUPS)
def test_groups_are_those_of_torch(rule: str) -> None:
    results = []
    for library in (thalweg.torch, torch.optim):
        params = parameters(torch.float64)
        first, *rest = params.values()
        opt = getattr(library, rule)(
            [{"params": rest}, {"params": [first], **GROUPS[rule]}], lr=0.1
        )
        for step in range(20):
            give(params, gradients(step, torch.float64))
            opt.step()
            if step == 9:
                opt.param_groups[0].update(lr=0.01, weight_decay=0.3)
        results.append(params.values())
    for mine, its in zip(*results, strict=True):
        assert torch.allclose(mine, its, rtol=1e-12, atol=1e-12)


def test_one_group_may_ascend_and_another_descend() -> None:
    params, arrays = parameters(), {k: v.detach().numpy().copy() for k, v in parameters().items()}
    *descend, ascend = params.values()
    opt = thalweg.torch.SGD([{"params": descend}, {"params": [ascend], "maximize": True}], lr=0.1)
    plain = thalweg.SGD(arrays, lr=0.1)
    for step in range(3):
        grads = gradients(step)
        give(params, grads)
        opt.step(max_norm=1.0)
        signs = {name: -1.0 if name == "bias" else 1.0 for name in SHAPES}
        plain.step({n: signs[n] * g.numpy() for n, g in grads.items()}, max_norm=1.0)
    assert all(np.array_equal(params[name].detach(), arrays[name]) for name in SHAPES)


def test_tensors_share_memory_with_the_optimizer() -> None:
    params = parameters()
    views = {name: param.detach().numpy() for name, param in params.items()}
    opt = thalweg.torch.AdamW(params.values(), lr=0.1)
    give(params, gradients(0))
    opt.step()
    moments = opt.state[params["head"]]["exp_avg"]
    give(params, gradients(1))
    opt.step()
    assert opt.state[params["head"]]["exp_avg"] is moments
    assert all(np.array_equal(views[name], params[name].detach()) for name in SHAPES)
    moments.zero_()  # edited in place
    params["head"].grad = torch.zeros(SHAPES["head"])
    before = params["head"].detach().clone()
    opt.param_groups[0]["weight_decay"] = 0.0
    opt.step()
    assert torch.equal(params["head"], before)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.zeros(6, 4).t(),
        torch.zeros(8, 8)[::2, 1::3],
        torch.zeros(0, 3),
        torch.zeros(()),
    ],
    ids=["channels_last", "transposed", "sliced", "empty", "0-d"],
)
@each_class
def test_tensors_of_any_strides_are_updated(rule: str, tensor: Any) -> None:
    param = copy.deepcopy(tensor).requires_grad_()  # with the strides
    assert param.stride() == tensor.stride()
    array = np.zeros(param.shape, np.float32)
    opt = getattr(thalweg.torch, rule)([param], lr=0.1)
    plain = of_arrays(rule)(
        array, lr=0.1, **in_thalweg(rule, {"weight_decay": opt.defaults["weight_decay"]})
    )
    for _ in range(3):
        param.grad = torch.randn(param.shape, generator=torch.Generator().manual_seed(0))
        opt.step()
        plain.step(param.grad.numpy())
    assert np.array_equal(param.detach(), array)
    for key, value in opt.state[param].items():
        assert value.shape == (() if key == "step" else param.shape)


@pytest.mark.parametrize(
    "gradient",
    [
        torch.tensor(2.0).expand(3),
        torch.full((3,), 2.0).requires_grad_(),
        (torch.full((3,), -2j)).conj().imag,
    ],
    ids=["expanded", "requires grad", "negated"],
)
def test_any_dense_gradient_is_accepted(gradient: Any) -> None:
    param = torch.ones(3, requires_grad=True)
    param.grad = gradient
    thalweg.torch.SGD([param], lr=0.25).step()
    assert param.tolist() == [0.5] * 3


@each_class
def test_float32_and_float64_may_be_mixed(rule: str) -> None:
    params = [torch.ones(2, requires_grad=True), torch.ones(2, dtype=torch.float64)]
    params[1].requires_grad_()
    opt = getattr(thalweg.torch, rule)(params, lr=0.1)
    for param in params:
        param.grad = torch.ones_like(param)
    opt.step()
    assert [param.dtype for param in params] == [torch.float32, torch.float64]
    for param in params:
        kinds = {key: value.dtype for key, value in opt.state[param].items() if key != "step"}
        assert {*kinds.values()} <= {param.dtype}
        assert kinds or rule == "SGD"


def test_a_closure_is_called_with_gradients_and_its_loss_returned() -> None:
    w = torch.tensor([2.0], requires_grad=True)
    opt = thalweg.torch.SGD([w], lr=0.25)

    def closure() -> Any:
        opt.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert opt.step(closure).item() == 4.0
    assert w.tolist() == [1.0]
    assert opt.step() is None


def test_limits_scale_and_statistics_reach_the_report() -> None:
    w = torch.zeros(2, requires_grad=True)
    opt = thalweg.torch.SGD([{"params": [w], "param_names": ["w"]}], lr=1.0)
    assert opt.report is None
    w.grad = torch.tensor([3.0, 4.0])
    opt.step(scale=2.0, max_norm=5.0, stats=True)
    assert (opt.report.grad_norm, opt.report.clip) == (10.0, 0.5)
    assert opt.report.stats["w"].grad_norm == 10.0
    opt.step(max_value=0.5)
    opt.step(max_tensor_norm=1.0)
    assert w.tolist() == pytest.approx([-3 - 0.5 - 0.6, -4 - 0.5 - 0.8])


@each_counted
def test_nonfinite_gradients_are_refused_skipped_or_applied(rule: str) -> None:
    outcomes = {}
    for policy in ("raise", "skip", "ignore"):
        params = [torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)]
        groups = [{"params": params[:1]}, {"params": params[1:]}]
        opt = getattr(thalweg.torch, rule)(groups, nonfinite=policy)
        params[0].grad, params[1].grad = torch.ones(2), torch.tensor([1.0, float("nan")])
        versions = [param._version for param in params]
        if policy == "raise":
            with pytest.raises(thalweg.NonFiniteError, match=r"param_groups\[1\]"):
                opt.step()
        else:
            opt.step()
        changed = [param._version != old for param, old in zip(params, versions, strict=True)]
        kept = [bool((param == 1).all()) for param in params]
        outcomes[policy] = (kept, changed, len(opt.state))
    assert outcomes["raise"] == outcomes["skip"] == ([True, True], [False, False], 0)
    assert outcomes["ignore"] == ([False, False], [True, True], 2)

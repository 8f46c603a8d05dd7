"""`thalweg.torch` in torch's own training loops: schedulers, hooks, freezing, autograd."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

if TYPE_CHECKING:
    from collections.abc import Iterator

from torch.optim.optimizer import (  # noqa: E402
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch_rules import each_class, each_counted  # noqa: E402

import thalweg  # noqa: E402
import thalweg.torch  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small tensors are faster on one thread, above all next to other programs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


S = torch.optim.lr_scheduler


def cycled(opt: Any) -> dict[str, bool]:
    """Whether a cycle can set momentum or betas."""
    return {"cycle_momentum": bool({"momentum", "betas"} & {*opt.defaults})}


SCHEDULERS = {
    "StepLR": lambda opt: S.StepLR(opt, 3, 0.5),
    "MultiStepLR": lambda opt: S.MultiStepLR(opt, [4, 8], 0.1),
    "LinearLR to 0": lambda opt: S.LinearLR(opt, start_factor=0.9, end_factor=0.0, total_iters=7),
    "CosineAnnealingLR": lambda opt: S.CosineAnnealingLR(opt, 12),
    "CosineAnnealingWarmRestarts": lambda opt: S.CosineAnnealingWarmRestarts(opt, 5),
    "OneCycleLR": lambda opt: S.OneCycleLR(opt, 0.1, total_steps=21, **cycled(opt)),
    "CyclicLR": lambda opt: S.CyclicLR(opt, 0.01, 0.1, 4, **cycled(opt)),
    "LambdaLR": lambda opt: S.LambdaLR(opt, lambda n: 1 / (n + 1)),
    "ReduceLROnPlateau": lambda opt: S.ReduceLROnPlateau(opt, patience=1),
    "SequentialLR": lambda opt: S.SequentialLR(
        opt, [S.LinearLR(opt, 0.1, total_iters=5), S.ExponentialLR(opt, 0.9)], [5]
    ),
}


class Pair:
    """A small model twice: with torch's optimizer and with thalweg's."""

    def __init__(self, rule: str = "AdamW", dtype: Any = torch.float32, **options: Any) -> None:
        torch.manual_seed(0)
        first = torch.nn.Sequential(
            torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.LayerNorm(8), torch.nn.Linear(8, 1)
        ).to(dtype)
        self.models = [first, copy.deepcopy(first)]
        self.theirs = getattr(torch.optim, rule)(first.parameters(), **options)
        options = copy.deepcopy(options)  # both would edit a shared tensor
        self.ours = getattr(thalweg.torch, rule)(self.models[1].parameters(), **options)
        self.opts = [self.theirs, self.ours]
        self.x, self.y = (torch.randn(20, n).to(dtype) for n in (6, 1))
        self.limits = {"rtol": 1e-4, "atol": 1e-5}
        if dtype is torch.float64:
            self.limits = {"rtol": 1e-12, "atol": 1e-12}

    def loss(self, model: Any, rows: Any = slice(None)) -> Any:
        return torch.nn.functional.mse_loss(model(self.x[rows]), self.y[rows])

    def backward(self) -> list[float]:
        losses = [self.loss(model) for model in self.models]
        for opt, loss in zip(self.opts, losses, strict=True):
            opt.zero_grad()
            loss.backward()
        return [loss.item() for loss in losses]

    def close(self) -> bool:
        pairs = zip(*(model.parameters() for model in self.models), strict=True)
        return all(torch.allclose(a, b, **self.limits) for a, b in pairs)


@pytest.mark.filterwarnings("ignore:The epoch parameter")  # torch 2.4 warns about its own call
@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
@each_class
def test_schedulers_of_torch_set_the_rate(rule: str, make: Any) -> None:
    pair = Pair(rule, torch.float64, lr=0.05)
    schedulers = [make(opt) for opt in pair.opts]
    for _ in range(20):
        losses = pair.backward()
        lr = pair.ours.param_groups[0]["lr"]
        for opt, scheduler, loss in zip(pair.opts, schedulers, losses, strict=True):
            opt.step()
            scheduler.step(*[loss] if isinstance(scheduler, S.ReduceLROnPlateau) else [])
        assert pair.ours.report.lr == pytest.approx(lr, abs=1e-15)
    groups = [opt.param_groups[0] for opt in pair.opts]
    assert groups[0]["lr"] == pytest.approx(groups[1]["lr"], rel=1e-6)
    assert groups[0].get("betas") == groups[1].get("betas")  # written by OneCycleLR
    assert groups[0].get("momentum") == groups[1].get("momentum")
    assert pair.close()


@each_class
def test_a_learning_rate_may_be_a_tensor(rule: str) -> None:
    pair = Pair(rule, lr=torch.tensor(0.05))
    schedulers = [S.StepLR(opt, 3, 0.5) for opt in pair.opts]
    for _ in range(8):
        pair.backward()
        for opt, scheduler in zip(pair.opts, schedulers, strict=True):
            opt.step()
            scheduler.step()
    assert torch.is_tensor(pair.ours.param_groups[0]["lr"])
    assert pair.ours.report.lr == torch.tensor(0.05).item() / 4
    assert pair.close()


@pytest.mark.parametrize("set_to_none", [True, False])
@each_class
def test_gradients_accumulate_and_are_cleared(rule: str, set_to_none: bool) -> None:
    pair = Pair(rule)
    for _ in range(3):
        for model, opt in zip(pair.models, pair.opts, strict=True):
            opt.zero_grad(set_to_none=set_to_none)
            for rows in (slice(10), slice(10, 20)):
                (pair.loss(model, rows) / 2).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            opt.step()
    assert pair.close()


def test_max_norm_equals_clip_grad_norm_of_torch() -> None:
    pair = Pair("SGD", lr=0.1)
    pair.backward()
    norm = torch.nn.utils.clip_grad_norm_(pair.models[0].parameters(), 0.1)
    pair.theirs.step()
    pair.ours.step(max_norm=0.1)
    assert pair.ours.report.grad_norm == pytest.approx(norm.item(), rel=1e-6)
    assert pair.ours.report.clip < 1
    assert pair.close()


@each_class
def test_hooks_of_torch_are_called(rule: str) -> None:
    pair = Pair(rule)
    seen: list[str] = []
    pair.ours.register_step_pre_hook(lambda *given: seen.append(f"pre {given[2]}"))
    handle = pair.ours.register_step_post_hook(lambda *_: seen.append("post"))
    pair.ours.register_state_dict_pre_hook(lambda _: seen.append("state"))
    pair.ours.register_load_state_dict_post_hook(lambda _: seen.append("load"))
    pair.backward()
    pair.ours.step(max_norm=1.0)
    handle.remove()
    pair.ours.step()
    pair.ours.load_state_dict(pair.ours.state_dict())
    assert seen == ["pre {'max_norm': 1.0}", "post", "pre {}", "state", "load"]


def test_hooks_of_both_kinds_run_in_torchs_order_and_replace_arguments() -> None:
    w = torch.zeros(2, requires_grad=True)
    opt = thalweg.torch.SGD([w], lr=1.0)
    seen: list[str] = []

    def halves(kind: str) -> Any:
        def hook(_: Any, args: Any, kwargs: Any) -> Any:
            seen.append(f"{kind} {kwargs['scale']}")
            return args, {**kwargs, "scale": kwargs["scale"] / 2}

        return hook

    def notes(kind: str) -> Any:
        return lambda _, args, kwargs: seen.append(f"{kind} {kwargs['scale']} {len(args)}")

    def step() -> list[str]:
        w.grad = torch.ones(2)
        assert opt.step(scale=1.0) is None
        return [seen.pop(0) for _ in [*seen]]

    assert step() == []
    handles = [
        opt.register_step_post_hook(notes("own post")),
        register_optimizer_step_post_hook(notes("global post")),
        opt.register_step_pre_hook(halves("own pre")),
        register_optimizer_step_pre_hook(halves("global pre")),
    ]
    expected = ["global pre 1.0", "own pre 0.5", "own post 0.25 1", "global post 0.25 1"]
    for handle, left in ((None, 4), (handles[0], 3), (handles[1], 2), (handles[2], 1)):
        if handle:
            handle.remove()
        called = step()
        assert len(called) == left
        assert handle or called == expected
    handles[3].remove()
    assert step() == []
    assert w.tolist() == [-(1 + 3 * 0.25 + 0.5 + 1)] * 2
    w.grad = None
    opt.register_step_pre_hook(lambda *_: None)
    with pytest.warns(UserWarning, match="has a gradient") as caught:
        opt.step()
    assert caught[0].filename == __file__


@each_class
def test_profilers_of_torch_see_the_step(rule: str) -> None:
    pair = Pair(rule)
    pair.backward()
    pair.ours.step()
    with torch.autograd.profiler.profile() as profile:
        pair.ours.step()
    assert [e.count for e in profile.key_averages() if e.key == f"Optimizer.step#{rule}.step"] == [
        1
    ]


def test_a_subclass_may_override_the_step() -> None:
    class Twice(thalweg.torch.SGD):
        def step(self, *args: Any, **kwargs: Any) -> Any:
            super().step(*args, **kwargs)
            return super().step(*args, **kwargs)

    w = torch.zeros(2, requires_grad=True)
    first = Twice([w], lr=1.0)
    for opt in (first, copy.deepcopy(first)):
        param = opt.param_groups[0]["params"][0]
        param.grad = torch.ones(2)
        calls: list[str] = []
        handles = [
            opt.register_step_pre_hook(lambda *_, calls=calls: calls.append("pre")),
            opt.register_step_post_hook(lambda *_, calls=calls: calls.append("post")),
        ]
        opt.step()
        assert calls[0] == "pre"
        assert calls[-1] == "post"
        for handle in handles:
            handle.remove()
        opt.step()
        assert param.tolist() == [-4.0, -4.0]


def test_values_of_groups_may_change_in_place_between_steps() -> None:
    betas = [0.9, 0.999]
    pair = Pair(lr=torch.tensor(0.05, dtype=torch.float64))
    plain = Pair(lr=0.05)
    for opt in (*pair.opts, *plain.opts):
        opt.param_groups[0]["betas"] = [*betas]
    for step in range(8):
        for both in (pair, plain):
            both.backward()
            for opt in both.opts:
                if step == 3:
                    opt.param_groups[0]["betas"][0] = 0.5
                if step == 5 and both is pair:
                    opt.param_groups[0]["lr"].mul_(0.5)
                if step == 5 and both is plain:
                    opt.param_groups[0]["lr"] = 0.025
                opt.step()
    assert pair.close()
    assert plain.close()
    assert pair.ours.report.lr == plain.ours.report.lr == 0.025
    assert torch.equal(pair.models[1][0].weight, plain.models[1][0].weight)


def test_hyperparameters_that_return_to_old_values_are_seen() -> None:
    w = torch.zeros(1, requires_grad=True)
    opt = thalweg.torch.SGD([w], lr=1.0)
    group, other = opt.param_groups[0], thalweg.torch.SGD([w], lr=0.5)
    old = group["lr"]
    w.grad = torch.ones(1)
    for _ in range(3):
        opt.step()
    for bad in (-1.0, "a"):
        group["lr"] = bad
        with pytest.raises((TypeError, ValueError)):
            opt.step()
    group["lr"] = old
    opt.step()
    opt.load_state_dict(other.state_dict())
    opt.param_groups[0]["lr"] = old
    opt.step()
    assert opt.report.lr == 1.0
    opt.param_groups[0]["lr"], w.grad = 0.25, torch.tensor([float("nan")])
    with pytest.raises(thalweg.NonFiniteError):
        opt.step()
    opt.param_groups[0]["lr"], w.grad = old, torch.ones(1)
    opt.step()
    assert w.tolist() == [-6.0]
    opt.param_groups[0]["params"].append(torch.zeros(1))
    with pytest.raises(ValueError, match="was changed; add parameters"):
        opt.step()


@each_counted
def test_a_step_that_is_interrupted_behind_the_update_keeps_its_count(rule: str) -> None:
    pair = Pair(rule)
    pair.backward()
    pair.ours.step()
    interrupted = mock.patch("thalweg.torch.base.count_write", side_effect=KeyboardInterrupt)
    with interrupted, pytest.raises(KeyboardInterrupt):
        pair.ours.step()
    pair.theirs.step()
    pair.theirs.step()
    assert [state["step"].item() for state in pair.ours.state.values()] == [2.0] * 6
    for opt in pair.opts:
        opt.step()
    assert pair.close()
    assert [state["step"].item() for state in pair.ours.state.values()] == [3.0] * 6


@each_counted
def test_groups_join_in_mid_run(rule: str) -> None:
    pair = Pair(rule)
    late = [torch.ones(3, requires_grad=True) for _ in pair.opts]
    for step in range(6):
        if step == 3:
            for opt, param in zip(pair.opts, late, strict=True):
                opt.add_param_group({"params": param, "lr": 0.1, "weight_decay": 0.5})
        pair.backward()
        for param in late:
            param.grad = torch.full((3,), 0.5)
        for opt in pair.opts:
            opt.step()
    assert pair.close()
    assert torch.allclose(*late)
    assert [state["step"].item() for state in pair.ours.state.values()] == [6.0] * 6 + [3.0]


def test_a_group_that_is_refused_changes_nothing() -> None:
    pair = Pair()
    pair.backward()
    pair.ours.step()
    for bad in (
        {"params": [torch.ones(2, dtype=torch.complex64, requires_grad=True)]},
        {"params": [torch.ones(2, requires_grad=True)], "lr": -1.0},
        {"params": [torch.ones(2, requires_grad=True)], "amsgrad": True},
    ):
        with pytest.raises((TypeError, ValueError)):
            pair.ours.add_param_group(bad)
        assert len(pair.ours.param_groups) == 1
    interrupted = mock.patch.object(pair.ours, "_read", side_effect=KeyboardInterrupt)
    with interrupted, pytest.raises(KeyboardInterrupt):
        pair.ours.add_param_group({"params": [torch.ones(2, requires_grad=True)]})
    assert len(pair.ours.param_groups) == 1
    pair.ours.step()
    assert pair.ours.report.step == 2


@each_counted
def test_a_parameter_has_no_state_until_it_requires_a_gradient(rule: str) -> None:
    pair = Pair(rule)
    for model in pair.models:
        model[0].requires_grad_(False)
    frozen = getattr(thalweg.torch, rule)(pair.models[1].parameters())
    pair.opts[1] = frozen
    for step in range(6):
        if step == 3:
            for model in pair.models:
                model[0].requires_grad_(True)
                model[3].requires_grad_(False)
        pair.backward()
        for opt in pair.opts:
            opt.step()
        assert (pair.models[1][0].weight in frozen.state) == (step >= 3)
    assert pair.close()
    assert frozen.state[pair.models[1][0].weight]["step"].item() == 3
    assert frozen.state[pair.models[1][3].weight]["step"].item() == 3


def test_frozen_tensors_may_be_of_any_kind() -> None:
    whole = torch.ones(3, dtype=torch.int64)
    elsewhere = torch.ones(3, device="meta")
    adapter = torch.ones(3, requires_grad=True)
    opt = thalweg.torch.AdamW([whole, elsewhere, adapter], lr=0.1, weight_decay=0.0)
    adapter.grad = torch.ones(3)
    opt.step()
    assert torch.allclose(adapter, torch.full((3,), 0.9))
    assert thalweg.torch.SGD([whole]).param_groups[0]["params"][0] is whole


def test_a_step_without_any_gradient_warns() -> None:
    opt = thalweg.torch.AdamW([torch.ones(3, requires_grad=True)])
    with pytest.warns(UserWarning, match="no parameter of the optimizer has a gradient") as caught:
        opt.step()
    assert caught[0].filename == __file__
    assert opt.report is None


@each_class
def test_autograd_detects_the_in_place_update(rule: str) -> None:
    pair = Pair(rule)
    for model, opt in zip(pair.models, pair.opts, strict=True):
        loss = pair.loss(model)
        loss.backward(retain_graph=True)
        opt.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@each_counted
def test_new_memory_of_a_parameter_is_adopted(rule: str) -> None:
    pair = Pair(rule)
    for step in range(6):
        for model in pair.models:
            weight = model[0].weight
            if step == 2:
                weight.data = weight.data.clone() * 2
            elif step == 3:
                weight.data = weight.data.t().contiguous().t()  # other strides
            elif step == 4:
                model.share_memory()
        pair.backward()
        for opt in pair.opts:
            opt.step()
    assert pair.close()
    assert pair.ours.state[pair.models[1][0].weight]["step"].item() == 6


@pytest.mark.parametrize("joins", [True, False])
def test_new_memory_is_adopted_when_another_parameter_joins(joins: bool) -> None:
    first, late = torch.ones(3, requires_grad=True), torch.ones(3)
    opt = thalweg.torch.SGD([first] if joins else [first, late], lr=0.25)
    first.data = torch.zeros(3)
    late.requires_grad_()
    if joins:
        opt.add_param_group({"params": [late]})
    first.grad = late.grad = torch.ones(3)
    opt.step()
    assert (first.tolist(), late.tolist()) == ([-0.25] * 3, [0.75] * 3)


def test_new_strides_over_the_same_memory_are_adopted() -> None:
    ours, theirs = (torch.arange(9.0).reshape(3, 3).requires_grad_() for _ in range(2))
    opts = [thalweg.torch.AdamW([ours], lr=0.1), torch.optim.AdamW([theirs], lr=0.1)]
    gradient = torch.tensor([[1.0, -2.0, 3.0], [4.0, -5.0, -6.0], [7.0, 8.0, -9.0]])
    for param, opt in zip((ours, theirs), opts, strict=True):
        for _ in range(2):
            param.data = param.data.t()
            param.grad = gradient
            opt.step()
    assert torch.allclose(ours, theirs)


@pytest.mark.parametrize(
    ("rule", "options", "course"),
    [
        ("SGD", {"dampening": 0.3}, (0.0, 0.9, 0.9, 0.0, 0.5)),
        ("SGD", {"momentum": 0.9, "nesterov": True}, (0.9, 0.5, 0.9)),
        ("RMSprop", {"momentum": 0.9}, (0.9, 0.0, 0.0, 0.5)),
        ("RMSprop", {"momentum": 0.9, "centered": True}, (0.9, 0.0, 0.5)),
    ],
)
def test_momentum_may_begin_end_and_begin_again_in_mid_run(
    rule: str, options: dict[str, Any], course: tuple[float, ...]
) -> None:
    pair = Pair(rule, lr=0.01, **options)
    for momentum in course:
        for opt in pair.opts:
            opt.param_groups[0]["momentum"] = momentum
        for _ in range(3):
            pair.backward()
            for opt in pair.opts:
                opt.step()
        keys = [{*opt.state[opt.param_groups[0]["params"][0]]} for opt in pair.opts]
        assert keys[0] - {"step"} == keys[1] - {"step"}
    assert pair.close()


@each_counted
def test_convolutions_in_channels_last_equal_torch(rule: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    other = copy.deepcopy(model)
    opts = [
        getattr(library, rule)(net.parameters())
        for library, net in ((torch.optim, model), (thalweg.torch, other))
    ]
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    for _ in range(5):
        for net, opt in zip((model, other), opts, strict=True):
            opt.zero_grad()
            net(x).square().mean().backward()
            opt.step()
    assert other.weight.is_contiguous(memory_format=torch.channels_last)
    for key, value in opts[1].state[other.weight].items():
        assert key == "step" or value.stride() == other.weight.stride()
    assert torch.allclose(model.weight, other.weight, atol=1e-6)


def test_parameters_and_steps_in_inference_mode_work() -> None:
    with torch.inference_mode():
        born = torch.ones(2, requires_grad=True)
        born.grad = torch.ones(2)
    usual = torch.ones(2, requires_grad=True)
    usual.grad = torch.ones(2)
    opt = thalweg.torch.SGD([born, usual], lr=0.25)
    opt.step()
    with torch.inference_mode():
        opt.step()
    assert born.tolist() == usual.tolist() == [0.5, 0.5]


def test_an_optimizer_for_each_parameter_steps_inside_the_backward_pass() -> None:
    pair = Pair()
    opts = {param: thalweg.torch.AdamW([param]) for param in pair.models[1].parameters()}

    def update(param: Any) -> None:
        opts[param].step()
        opts[param].zero_grad()

    for param in opts:
        param.register_post_accumulate_grad_hook(update)
    for _ in range(3):
        pair.backward()
        pair.theirs.step()
    assert pair.close()
    assert all(param.grad is None for param in opts)


@each_class
def test_averaged_models_of_torch_work(rule: str) -> None:
    pair = Pair(rule)
    averages = [torch.optim.swa_utils.AveragedModel(model) for model in pair.models]
    schedulers = [torch.optim.swa_utils.SWALR(opt, 0.05, anneal_epochs=3) for opt in pair.opts]
    for _ in range(6):
        pair.backward()
        for opt, model, average, scheduler in zip(
            pair.opts, pair.models, averages, schedulers, strict=True
        ):
            opt.step()
            average.update_parameters(model)
            scheduler.step()
    pairs = zip(*(average.parameters() for average in averages), strict=True)
    assert all(torch.allclose(a, b, **pair.limits) for a, b in pairs)


@each_class
def test_a_gradient_scaler_on_the_cpu_skips_bad_steps(rule: str) -> None:
    pair = Pair(rule)
    scalers = [torch.amp.GradScaler("cpu", init_scale=8.0) for _ in pair.opts]
    for step in range(4):
        for model, opt, scaler in zip(pair.models, pair.opts, scalers, strict=True):
            opt.zero_grad()
            scaler.scale(pair.loss(model)).backward()
            if step == 1:
                model[0].weight.grad[0, 0] = float("inf")
            scaler.step(opt)
            scaler.update()
    assert pair.close()
    assert pair.ours.report.step == 3


@each_class
def test_compiled_models_and_steps_work(rule: str) -> None:
    pair = Pair(rule)
    compiled = [torch.compile(model, backend="eager") for model in pair.models]

    traced = []

    def backend(graph: Any, _inputs: Any) -> Any:
        traced.append(graph)
        return graph.forward

    @torch.compile(backend=backend)
    def update() -> None:
        pair.ours.step(max_norm=100.0)

    for _ in range(2):
        for model, opt in zip(compiled, pair.opts, strict=True):
            opt.zero_grad()
            pair.loss(model).backward()
        pair.theirs.step()
        update()
    assert pair.close()
    assert pair.ours.report.step == 2
    assert traced == []  # a traced step would give NumPy copies of tensors


def test_a_compiled_step_calls_hooks() -> None:
    pair = Pair()

    @torch.compile(backend="eager")
    def update() -> None:
        pair.ours.step()

    seen: list[str] = []
    for hooked in (False, True, False):
        handle = pair.ours.register_step_pre_hook(lambda *_: seen.append("pre"))
        if not hooked:
            handle.remove()
        pair.backward()
        pair.theirs.step()
        update()
        handle.remove()
    assert pair.close()
    assert seen == ["pre"]


def test_reports_name_parameters_by_param_names_or_position() -> None:
    nan = torch.full((2,), float("nan"))
    w, b = (torch.ones(2, requires_grad=True) for _ in range(2))
    w.grad = b.grad = nan
    for groups, expected in (
        ([{"params": [w, b], "param_names": ["w", "b"]}], {"w": 2, "b": 2}),
        (
            [{"params": [w], "param_names": ["w"]}, {"params": [b], "param_names": ["w"]}],
            {"w": 2, 'w (param_groups[1]["params"][0])': 2},
        ),
        ([b, w], {f'param_groups[0]["params"][{i}]': 2 for i in range(2)}),
    ):
        opt = thalweg.torch.AdamW(groups, nonfinite="skip")
        opt.step()
        assert opt.report.nonfinite == expected


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 5), reason="torch has no names yet"
)
def test_named_parameters_are_named_in_errors() -> None:
    model = torch.nn.Linear(2, 1)
    model(torch.full((1, 2), float("inf"))).sum().backward()
    opt = thalweg.torch.AdamW(model.named_parameters())
    with pytest.raises(thalweg.NonFiniteError, match="at step 1: weight"):
        opt.step()

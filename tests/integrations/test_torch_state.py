"""State of `thalweg.torch` is in torch's form, and resumes in both libraries."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

if TYPE_CHECKING:
    from collections.abc import Iterator

from torch_rules import each_rule  # noqa: E402
from torch_runs import Run  # noqa: E402

import thalweg  # noqa: E402
import thalweg.torch  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small tensors are faster on one thread, above all next to other programs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@pytest.mark.parametrize("before", [0, 3, 12])
@each_dtype
@each_rule
def test_a_run_of_torch_continues_in_thalweg(
    rule: str, options: dict[str, Any], dtype: Any, before: int
) -> None:
    theirs = Run(torch.optim, rule, options, dtype).train(before)
    ours = theirs.resumed(thalweg.torch, rule, options).train(15)
    assert ours.close(theirs.train(15))
    if rule != "SGD":
        assert [state["step"].item() for state in ours.opt.state.values()] == [
            before + 15,
            before + 15,
            before + 15 - 8,
        ]


@pytest.mark.parametrize("before", [0, 3, 12])
@each_dtype
@each_rule
def test_a_run_of_thalweg_continues_in_torch(
    rule: str, options: dict[str, Any], dtype: Any, before: int
) -> None:
    ours = Run(thalweg.torch, rule, options, dtype).train(before)
    # Saved groups win over those of the constructor.
    theirs = ours.resumed(torch.optim, rule, {"lr": 7.0} if before else options).train(15)
    assert theirs.close(ours.train(15))


@pytest.mark.parametrize("before", [0, 3])
def test_the_state_of_adagrad_has_sums_that_were_not_updated(before: int) -> None:
    options = {"lr": 0.1, "initial_accumulator_value": 0.25}
    ours, theirs = (
        Run(library, "Adagrad", options, torch.float64).train(before)
        for library in (thalweg.torch, torch.optim)
    )
    assert {*ours.opt.state} == {*ours.params[: 2 if before else 0]}
    for copied in (True, False):
        state = ours.opt.state_dict(copy=copied)["state"]
        saved = theirs.opt.state_dict()["state"]
        assert [*state] == [*saved]
        for key, entry in saved.items():
            assert state[key].keys() == entry.keys()
            for name, value in entry.items():
                assert torch.allclose(state[key][name].double(), value.double())
    # torch begins sums that are missing at the value of its constructor.
    other = ours.resumed(torch.optim, "Adagrad", {"lr": 0.1}).train(12)
    assert other.close(theirs.train(12))
    assert ours.train(12).close(theirs)


def test_an_update_begins_the_sum_of_adagrad() -> None:
    theirs = torch.optim.Adagrad([w := torch.ones(3, requires_grad=True)])
    theirs.state[w]["sum"].fill_(4.0)
    opt = thalweg.torch.Adagrad([("w", w)], initial_accumulator_value=0.5)
    saved = theirs.state_dict()
    with pytest.raises(ValueError, match=r"sum of 'w' .* must be initial_accumulator_value, 0, at"):
        opt.load_state_dict(saved)
    assert opt.param_groups[0]["initial_accumulator_value"] == 0.5
    for wrong in (torch.full((2,), 0.5), 0.5):
        bad = copy.deepcopy(saved)
        bad["state"][0]["sum"] = wrong
        with pytest.raises(
            ValueError, match=r"sum of 'w' .* must be a tensor of shape \(3,\), got"
        ):
            opt.load_state_dict(bad)
    saved["param_groups"][0]["initial_accumulator_value"] = 4
    opt.load_state_dict(saved)
    w.grad = torch.ones(3)
    opt.step()
    assert opt.state[w]["sum"].tolist() == [5.0] * 3


def test_parameters_of_any_kind_that_torch_never_updated_are_loaded() -> None:
    whole, frozen = torch.ones(2, dtype=torch.int64), torch.ones(2)
    theirs = torch.optim.Adagrad([whole, frozen])
    opt = thalweg.torch.Adagrad([whole, frozen])
    opt.load_state_dict(theirs.state_dict())
    assert opt.state == {}
    assert opt.state_dict()["state"].keys() == {0, 1}
    frozen.requires_grad_().grad = torch.ones(2)
    opt.step()
    assert opt.state.keys() == {frozen}
    frozen.requires_grad_(False)
    saved = opt.state_dict()
    opt = thalweg.torch.Adagrad([whole, frozen])
    opt.load_state_dict(saved)
    assert opt.state[frozen]["step"] == 1


@pytest.mark.parametrize("how", ["file", "pickle", "deepcopy", "live"])
@pytest.mark.parametrize("before", [0, 3, 12])
@each_rule
def test_a_run_of_thalweg_resumes_to_the_same_bits(
    rule: str, options: dict[str, Any], before: int, how: str
) -> None:
    run = Run(thalweg.torch, rule, options).train(before)
    if how == "file":
        other = run.resumed(thalweg.torch, rule, options)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(run))  # noqa: S301 - our own
    elif how == "deepcopy":
        other = copy.deepcopy(run)
    else:
        other = run
        other.opt.load_state_dict(run.opt.state_dict(copy=False))
        run = Run(thalweg.torch, rule, options).train(before)
    assert other.equal(run)
    assert other.train(15).equal(run.train(15))
    mine, its = (
        {name: getattr(one.opt.report, name) for name in ("step", "lr", "grad_norm", "clip")}
        for one in (run, other)
    )
    if rule == "SGD" and how in ("file", "live"):
        # torch's state dict of SGD has no step count.
        begun = before > 0 and "momentum" in options
        assert its.pop("step") == mine.pop("step") - before + begun
    assert its == mine


def test_a_copy_is_independent() -> None:
    run = Run(thalweg.torch, "AdamW", {}).train(2)
    other, saved = copy.deepcopy(run), run.opt.state_dict()
    kept = saved["state"][0]["exp_avg"].clone()
    run.train(1)
    assert torch.equal(saved["state"][0]["exp_avg"], kept)
    assert saved["state"][0]["step"].item() == other.opt.state[other.params[0]]["step"].item() == 2
    live = run.opt.state_dict(copy=False)["state"][0]
    run.train(1)
    assert live["step"].item() == 4
    assert live["exp_avg"] is run.opt.state[run.params[0]]["exp_avg"]


def test_counts_beyond_what_float32_holds_are_exact() -> None:
    run = Run(thalweg.torch, "AdamW", {}).train(1)
    saved = run.opt.state_dict()
    saved["state"][0]["step"] = torch.tensor(2.0**24 + 1, dtype=torch.float64)
    saved["state"][1]["step"] = 2**40 + 1  # a plain int, as in old checkpoints
    run.opt.load_state_dict(saved)
    run.train(1)
    steps = [run.opt.state[param]["step"].item() for param in run.params[:2]]
    assert steps == [2**24 + 2, 2**40 + 2]


def test_step_counts_are_live_and_count_only_steps_with_a_gradient() -> None:
    run = Run(thalweg.torch, "AdamW", {})
    assert len(run.opt.state) == 0
    run.train(1)
    count = run.opt.state[run.params[0]]["step"]
    for step in range(2, 12):
        run.train(1)
        assert count.item() == step
        assert (run.params[2] in run.opt.state) == (step > 8)
    assert run.opt.state[run.params[2]]["step"].item() == 3
    run.opt.add_param_group({"params": [torch.zeros(2, requires_grad=True)]})
    assert run.opt.state[run.params[0]]["step"].item() == 11


def test_saved_hyperparameters_are_loaded() -> None:
    saved = Run(thalweg.torch, "Adam", {"lr": 0.3, "amsgrad": True}).train(2).opt.state_dict()
    run = Run(thalweg.torch, "Adam", {"lr": 0.1})
    run.opt.load_state_dict(saved)
    assert [group["lr"] for group in run.opt.param_groups] == [0.3, 0.02]
    assert "max_exp_avg_sq" in run.opt.state[run.params[0]]
    run.done = 2
    run.train(1)
    assert run.opt.report.lr == 0.3
    del saved["param_groups"][0]["maximize"]  # a checkpoint of an older torch
    run.opt.load_state_dict(saved)
    assert run.opt.param_groups[0]["maximize"] is False


def test_adamw_stays_decoupled_whatever_was_saved() -> None:
    coupled = Run(torch.optim, "Adam", {"weight_decay": 0.5}).train(2)
    ours, theirs = (coupled.resumed(lib, "AdamW", {}) for lib in (thalweg.torch, torch.optim))
    for group in theirs.opt.param_groups:
        group["decoupled_weight_decay"] = True  # a key of torch since 2.6
    assert ours.train(5).close(theirs.train(5))


@pytest.mark.parametrize(
    "forget",
    [
        lambda opt, _: opt.state.clear(),
        lambda opt, _: setattr(opt, "state", type(opt.state)(dict)),
        lambda opt, params: opt.state.pop(params[0]),
    ],
    ids=["clear", "assign", "pop"],
)
def test_state_that_was_deleted_starts_from_zero(forget: Any) -> None:
    ours, theirs = Run(thalweg.torch, "AdamW", {}).train(3), Run(torch.optim, "AdamW", {}).train(3)
    for run in (ours, theirs):
        forget(run.opt, run.params)
        run.train(3)
    assert ours.close(theirs)
    assert ours.opt.state[ours.params[0]]["step"].item() == 3


def test_reading_missing_state_changes_no_update() -> None:
    run = Run(thalweg.torch, "AdamW", {})
    assert [run.opt.state[param] for param in run.params] == [{}, {}, {}]
    run.train(2)
    assert run.opt.state[run.params[0]]["step"].item() == 2
    assert run.opt.state[run.params[2]] == {}
    # Reading has added an empty entry.
    assert run.equal(Run(thalweg.torch, "AdamW", {}).train(2)) is False
    run.opt.state.pop(run.params[2])
    assert run.equal(Run(thalweg.torch, "AdamW", {}).train(2))


def test_a_state_dict_that_does_not_fit_changes_nothing() -> None:
    run, twin = Run(thalweg.torch, "AdamW", {}).train(2), Run(thalweg.torch, "AdamW", {}).train(2)
    good = run.opt.state_dict()
    for spoil, message in (
        (lambda s: s["state"][0].pop("exp_avg"), "must have step, exp_avg, exp_avg_sq"),
        (lambda s: s["state"][1].update(exp_avg=torch.zeros(7)), r"Tensor of shape \(7,\)"),
        (lambda s: s["state"][1].update(exp_avg=1.0), "got a float of shape"),
        (
            lambda s: s["state"][1].update(exp_avg=torch.zeros((), device="meta")),
            "exp_avg of .* dense on the CPU, got .* on meta",
        ),
        (lambda s: s["state"][1].update(step=torch.tensor(0.5)), "must be a whole number"),
        (
            lambda s: s["state"][1].update(step=torch.tensor(1.0, device="meta")),
            "must be a whole number .* device='meta'",
        ),
        (lambda s: s["state"][1].update(step=float("nan")), "must be a whole number"),
        (lambda s: s["param_groups"][1].update(lr=-1.0), "lr must be finite"),
        (lambda s: s["param_groups"][1].update(capturable=True), "capturable must be False"),
        (lambda s: s["param_groups"][1].update(amsgrad=True), "same in all groups"),
        (lambda s: s["param_groups"].pop(), "different number of parameter groups"),
    ):
        bad = copy.deepcopy(good)
        spoil(bad)
        with pytest.raises(ValueError, match=message):
            run.opt.load_state_dict(bad)
        assert run.equal(twin)
    run.opt.load_state_dict(good)
    assert run.train(3).equal(twin.train(3))

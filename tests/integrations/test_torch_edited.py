"""Edits of `opt.state` in `thalweg.torch` have the effect they have in torch, or are refused."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

from torch_rules import each_rule  # noqa: E402
from torch_runs import Run  # noqa: E402

import thalweg.torch  # noqa: E402
from thalweg import _core  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small tensors are faster on one thread, above all next to other programs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def entries(run: Run) -> list[dict[str, Any]]:
    """State of updated parameters; torch's Adagrad has it for the others too."""
    return [entry for entry in run.opt.state.values() if entry and entry.get("step") != 0]


def clone(run: Run) -> None:
    for entry in entries(run):
        for key, value in entry.items():
            entry[key] = value.clone()


def halve(run: Run) -> None:
    for entry in entries(run):
        for key in entry.keys() - {"step"}:
            entry[key] = entry[key] / 2


def other_dicts(run: Run) -> None:
    for param, entry in [*run.opt.state.items()]:
        run.opt.state[param] = dict(entry)


def reorder(run: Run) -> None:
    for param in run.params[:1]:
        if param in run.opt.state:
            run.opt.state[param] = run.opt.state.pop(param)


def clear_entry(run: Run) -> None:
    run.opt.state[run.params[0]].clear()


def empty_entry(run: Run) -> None:
    run.opt.state[run.params[0]] = {}


def delete_entry(run: Run) -> None:
    run.opt.state.pop(run.params[0], None)


def clear(run: Run) -> None:
    run.opt.state.clear()


def replace(run: Run) -> None:
    run.opt.state = type(run.opt.state)(dict)


def zero_buffers(run: Run) -> None:  # like the reset of Lookahead
    for entry in entries(run):
        if "momentum_buffer" in entry:
            entry["momentum_buffer"] = torch.zeros_like(entry["momentum_buffer"])


def none_buffers(run: Run) -> None:
    for entry in entries(run):
        if "momentum_buffer" in entry:
            entry["momentum_buffer"] = None


def fill_step(run: Run) -> None:
    for entry in entries(run):
        if "step" in entry:
            entry["step"].fill_(0)


def new_step(run: Run) -> None:
    for entry in entries(run):
        if "step" in entry:
            entry["step"] = torch.tensor(41.0)


def other_keys(run: Run) -> None:  # like entries of optimizer wrappers
    for entry in entries(run):
        entry["slow"] = torch.ones(2)
    run.opt.state["wrapper"] = {"count": 3}


EDITS = [
    clone,
    halve,
    other_dicts,
    reorder,
    clear_entry,
    empty_entry,
    delete_entry,
    clear,
    replace,
    zero_buffers,
    none_buffers,
    fill_step,
    new_step,
    other_keys,
]
each_edit = pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)


def refused(rule: str, options: dict[str, Any], edit: Callable[[Run], None]) -> str:
    """The message for state that the rule cannot have, or nothing."""
    if edit is none_buffers and rule == "RMSprop" and "momentum" in options:
        return "must have step, square_avg, .*momentum_buffer, got step, square_avg"  # as in torch
    if edit is fill_step and rule == "Adagrad":
        return "step of opt.state of .* must be at least 1"
    return ""


def check_same_state(ours: Run, theirs: Run) -> None:
    mine, its = ours.opt.state_dict()["state"], theirs.opt.state_dict()["state"]
    kept, own = (
        # torch's Adagrad begins with sums of all parameters.
        {key: s for key, s in state.items() if s and s.get("step") != 0}
        for state in (mine, its)
    )
    assert kept.keys() == own.keys()
    for key, entry in own.items():
        assert kept[key].keys() == entry.keys()
        for name, value in entry.items():
            if isinstance(value, torch.Tensor):
                near = torch.as_tensor(kept[key][name]).to(value.dtype)
                assert torch.allclose(near, value, rtol=1e-5, atol=1e-6)
            else:
                assert kept[key][name] == value


@each_edit
@each_rule
def test_edits_have_the_effect_they_have_in_torch(
    rule: str, options: dict[str, Any], edit: Callable[[Run], None]
) -> None:
    ours, theirs = (Run(library, rule, options) for library in (thalweg.torch, torch.optim))
    for run in (ours, theirs):
        run.train(4)
        edit(run)
        if run is ours and (message := refused(rule, options, edit)):
            with pytest.raises(ValueError, match=message):
                run.train(1)
            return
        run.train(1)
    assert ours.close(theirs)
    check_same_state(ours, theirs)
    ours.train(7)
    assert ours.close(theirs.train(7))
    check_same_state(ours, theirs)


@pytest.mark.parametrize("how", ["state_dict", "pickle", "deepcopy"])
@each_edit
def test_edited_state_survives_saving_and_copying(how: str, edit: Callable[[Run], None]) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("AdamW", {}),
        ("SGD", {"lr": 0.1, "momentum": 0.9}),
        ("RMSprop", {"momentum": 0.9, "centered": True}),
        ("Adagrad", {"initial_accumulator_value": 0.5}),
    ]
    for rule, options in cases:
        if refused(rule, options, edit):
            continue
        run = Run(thalweg.torch, rule, options).train(4)
        edit(run)
        if how == "state_dict":
            other = run.resumed(thalweg.torch, rule, options)
        elif how == "pickle":
            other = pickle.loads(pickle.dumps(run))  # noqa: S301 - our own
        else:
            other = copy.deepcopy(run)
        run.train(3)
        other.train(3)
        assert all(torch.equal(a, b) for a, b in zip(run.params, other.params, strict=True))
        check_same_state(run, other)


def test_state_is_live_again_after_an_edit_was_taken_over() -> None:
    run = Run(thalweg.torch, "AdamW", {}).train(2)
    entry, given = run.opt.state[run.params[0]], torch.ones(4, 3)
    entry["exp_avg"] = given
    run.train(1)
    assert run.opt.state[run.params[0]] is entry
    assert entry["exp_avg"] is not given
    assert given.eq(1).all()
    entry["exp_avg"].zero_()
    entry["exp_avg_sq"].zero_()
    entry["step"].zero_()
    twin = copy.deepcopy(run)
    twin.opt.state.pop(twin.params[0])
    run.train(2)
    twin.train(2)
    assert torch.equal(run.params[0], twin.params[0])


@pytest.mark.parametrize("when", ["at first", "woken", "joined"])
@pytest.mark.parametrize(
    ("rule", "arrays"),
    [
        ("AdamW", {"exp_avg": 1.0, "exp_avg_sq": 4.0}),
        ("RAdam", {"exp_avg": 1.0, "exp_avg_sq": 4.0}),
        ("RMSprop", {"square_avg": 4.0}),
        ("Adagrad", {"sum": 4.0}),
    ],
)
def test_state_set_before_the_first_update_is_used(
    rule: str, arrays: dict[str, float], when: str
) -> None:
    results = []
    for library in (thalweg.torch, torch.optim):
        params = [torch.ones(3).requires_grad_() for _ in range(2)]
        if when == "woken":
            params[1].requires_grad_(False)
        opt = getattr(library, rule)(params[:1] if when == "joined" else params, lr=0.1)
        for param in params:
            values = {key: torch.full((3,), value) for key, value in arrays.items()}
            opt.state[param].update(step=torch.tensor(9.0), **values)
        params[0].grad = torch.ones(3)
        if when != "at first":
            opt.step()
        params[1].requires_grad_(True)
        if when == "joined":
            opt.add_param_group({"params": params[1:]})
        params[1].grad = torch.ones(3)
        opt.step()
        results.append([*params, *opt.state[params[1]].values()])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours.detach(), theirs.detach().to(ours.dtype))


def test_buffers_may_be_exchanged_between_parameters() -> None:
    params = [torch.ones(3).requires_grad_() for _ in range(2)]
    opt = thalweg.torch.SGD(params, lr=0.1, momentum=0.5)
    for factor, param in enumerate(params, 1):
        param.grad = factor * torch.ones(3)
    opt.step()
    first, second = (opt.state[param] for param in params)
    both = first["momentum_buffer"], second["momentum_buffer"]
    second["momentum_buffer"], first["momentum_buffer"] = both
    opt.step()
    buffers = [opt.state[param]["momentum_buffer"].tolist() for param in params]
    assert buffers == [[0.5 * 2 + 1] * 3, [0.5 * 1 + 2] * 3]


REFUSED: list[tuple[Callable[[dict[str, Any]], Any], type[Exception], str]] = [
    (
        lambda s: s.pop("exp_avg"),
        ValueError,
        "of 'w' must have step, exp_avg, exp_avg_sq, got step, exp_avg_sq",
    ),
    (lambda s: s.pop("step"), ValueError, "delete the whole entry to reset it"),
    (lambda s: s.update(exp_avg=None), ValueError, "must have step, exp_avg, exp_avg_sq"),
    (lambda s: s.update(exp_avg=torch.ones(7)), ValueError, r"exp_avg of 'w' in .* shape \(7,\)"),
    (
        lambda s: s.update(exp_avg=1.0),
        ValueError,
        "exp_avg of 'w' in opt.state must be a tensor of shape .*, got a float",
    ),
    (
        lambda s: s.update(exp_avg_sq=s["exp_avg"].double()),
        ValueError,
        "'w' .* must be torch.float32, .*, got torch.float64",
    ),
    (lambda s: s.update(exp_avg=s["exp_avg"].to_sparse()), ValueError, "torch.sparse_coo on cpu"),
    (lambda s: s.update(exp_avg=s["exp_avg"].to("meta")), ValueError, "torch.strided on meta"),
    (
        lambda s: s.update(exp_avg=s["exp_avg"].clone().share_memory_()),
        ValueError,
        "exp_avg of 'w' in opt.state must not be in memory shared",
    ),
    (lambda s: s["step"].fill_(0.5), ValueError, "step of opt.state of 'w' must be a whole number"),
    (lambda s: s.update(step=-1), ValueError, "must be a whole number .*, got -1"),
    (lambda s: s.update(step="3"), ValueError, "must be a whole number .*, got '3'"),
]


@pytest.mark.parametrize(("edit", "exception", "message"), REFUSED)
def test_state_that_does_not_fit_is_refused_and_changes_nothing(
    edit: Callable[[dict[str, Any]], Any], exception: type[Exception], message: str
) -> None:
    w, b = torch.ones(3).requires_grad_(), torch.ones(2).requires_grad_()
    opt = thalweg.torch.AdamW([("w", w), ("b", b)])
    w.grad, b.grad = torch.ones(3), torch.ones(2)
    opt.step()
    kept, right = [w.tolist(), b.tolist()], opt.state_dict()
    opt.state[b]["exp_avg"] = torch.full((2,), 5.0)
    edit(opt.state[w])
    for use in (opt.step, opt.state_dict, lambda: copy.deepcopy(opt)):
        with pytest.raises(exception, match=message):
            use()
    with pytest.raises(exception, match=message):
        opt.add_param_group({"params": [("c", torch.ones(1).requires_grad_())]})
    assert len(opt.param_groups) == 1
    assert [w.tolist(), b.tolist()] == kept
    opt.load_state_dict(right)
    opt.step()
    assert opt.state[w]["step"].item() == 2


def test_a_state_that_is_no_dict_is_refused() -> None:
    run = Run(thalweg.torch, "AdamW", {}).train(1)
    run.opt.state[run.params[0]] = [1]
    with pytest.raises(TypeError, match="must be a dict, got list"):
        run.train(1)
    run.opt.state = [1]
    with pytest.raises(TypeError, match=r"opt\.state must be a dict, got list"):
        run.train(1)


def test_state_moved_to_other_memory_is_not_used_and_saving_warns() -> None:
    run, twin = (Run(thalweg.torch, "AdamW", {}).train(2) for _ in range(2))
    entry = run.opt.state[run.params[0]]
    entry["exp_avg"].data = torch.zeros(4, 3)
    entry["step"].share_memory_()
    run.train(1)
    twin.train(1)
    with pytest.warns(UserWarning, match="the memory of a tensor in opt.state was replaced"):
        run.opt.state_dict()
    assert run.equal(twin)
    assert run.train(2).equal(twin.train(2))


@pytest.mark.parametrize(
    ("rule", "options", "change"),
    [
        ("SGD", {"momentum": 0.9}, {"nesterov": True}),
        ("SGD", {"momentum": 0.9}, {"momentum": 0.0}),
        ("RMSprop", {"momentum": 0.9}, {"momentum": 0.0}),
        ("AdamW", {"amsgrad": True}, {"amsgrad": False}),
    ],
)
def test_state_moved_to_other_memory_is_not_used_when_options_change(
    rule: str, options: dict[str, Any], change: dict[str, Any]
) -> None:
    run, twin = (Run(thalweg.torch, rule, options).train(2) for _ in range(2))
    for key, value in run.opt.state[run.params[0]].items():
        if key != "step":
            value.data = torch.zeros(4, 3)
    for one in (run, twin):
        for group in one.opt.param_groups:
            group.update(change)
    with pytest.warns(UserWarning, match="the memory of a tensor in opt.state was replaced"):
        run.train(1)
    assert run.train(2).equal(twin.train(3))


def test_unknown_keys_are_kept_through_a_state_dict() -> None:
    ours, theirs = (Run(library, "Adam", {}).train(2) for library in (thalweg.torch, torch.optim))
    for run in (ours, theirs):
        other_keys(run)
        run.opt.load_state_dict(run.opt.state_dict())
        assert run.opt.state["wrapper"] == {"count": 3}
        assert run.opt.state[run.params[0]]["slow"].shape == (2,)
    check_same_state(ours, theirs)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(1),
        np.zeros(2, np.float32),
        np.zeros(4)[::2],
        np.zeros(17, np.uint8)[1:].view(float),
        np.frombuffer(bytes(16)),
    ],
    ids=["short", "float32", "strided", "misaligned", "read-only"],
)
def test_counts_are_shown_only_in_arrays_that_hold_them(array: Any) -> None:
    params, grads = ({name: np.ones(2) for name in "wb"} for _ in range(2))
    native = _core.Updater()
    native.bind(params, "SGDW", {}, "raise")
    values = {"lr": 1.0, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "l2": 0.0}
    native.configure([values], [0, 0])
    for use in (
        lambda: native.step(grads, shown=array),
        lambda: native.show_steps(array),
        lambda: native.shows_steps(array),
    ):
        with pytest.raises(ValueError, match="writable array of 2 float64 or more"):
            use()
    assert native.leaf_steps() == [0, 0]
    assert params["w"].tolist() == [1.0, 1.0]

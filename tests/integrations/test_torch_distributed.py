"""State of `thalweg.torch` through `torch.distributed.checkpoint`, whole and flattened."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
parts = pytest.importorskip("torch.distributed.checkpoint.state_dict")
if not torch.distributed.is_available():
    pytest.skip("this PyTorch has no torch.distributed", allow_module_level=True)

from torch_rules import each_rule  # noqa: E402

import thalweg.torch  # noqa: E402

LIBRARIES = {"torch": torch.optim, "thalweg": thalweg.torch}


def made(library: str, rule: str, options: dict[str, Any]) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))
    groups = [{"params": model[0].parameters()}, {"params": model[1].parameters(), "lr": 0.02}]
    return model, getattr(LIBRARIES[library], rule)(groups, **options)


def train(model: Any, opt: Any, steps: int) -> None:
    for step in range(steps):
        opt.zero_grad()
        model(torch.full((2, 3), 1.0 + step)).square().sum().mul(1e-3).backward()
        opt.step()


@pytest.mark.parametrize("flat", [False, True], ids=["whole", "flat"])
@pytest.mark.parametrize("after", LIBRARIES)
@pytest.mark.parametrize("before", LIBRARIES)
@each_rule
def test_checkpoints_move_between_both_libraries(
    rule: str, options: dict[str, Any], before: str, after: str, flat: bool
) -> None:
    stateful = rule != "SGD" or "momentum" in options
    how = parts.StateDictOptions(flatten_optimizer_state_dict=flat, strict=stateful)
    model, opt = made(before, rule, options)
    train(model, opt, 3)
    # A copy, because torch's state dict shares its tensors with the optimizer.
    saved = copy.deepcopy(parts.get_optimizer_state_dict(model, opt, options=how))
    same = {key: value.clone() for key, value in model.state_dict().items()}
    other_model, other = made(after, rule, options)
    other_model.load_state_dict(same)
    parts.set_optimizer_state_dict(other_model, other, saved, options=how)
    train(model, opt, 4)
    train(other_model, other, 4)
    for one, its in zip(model.parameters(), other_model.parameters(), strict=True):
        assert torch.equal(one, its) if before == after else torch.allclose(one, its, rtol=1e-5)
    state, its = (
        {key: {k: float(v.sum()) for k, v in entry.items()} for key, entry in o.items() if entry}
        for o in (one.state_dict()["state"] for one in (opt, other))
    )
    assert its.keys() == state.keys()
    for key, entry in state.items():
        assert its[key] == pytest.approx(entry, rel=1e-4, abs=1e-6)


def test_loading_a_flattened_state_dict_directly_is_refused_with_advice() -> None:
    how = parts.StateDictOptions(flatten_optimizer_state_dict=True)
    model, opt = made("thalweg", "AdamW", {"lr": 0.1})
    train(model, opt, 1)
    saved = parts.get_optimizer_state_dict(model, opt, options=how)
    with pytest.raises(ValueError, match="set_optimizer_state_dict with StateDictOptions"):
        opt.load_state_dict(saved)


def test_a_whole_checkpoint_is_refused_naming_the_entry_to_load() -> None:
    _, opt = made("thalweg", "AdamW", {"lr": 0.1})
    saved = opt.state_dict()
    for whole, place in (
        ({"model": {}, "optimizer": saved, "epoch": 3}, r'pass checkpoint\["optimizer"\]$'),
        ({"state_dict": {}, "optimizer_states": [saved]}, r'checkpoint\["optimizer_states"\]\[0\]'),
        ({"a": saved, "b": {"c": saved}}, r'pass checkpoint\["a"\] or checkpoint\["b"\]\["c"\]$'),
        ({"weight": torch.ones(2)}, "got 'weight'$"),
        ({}, "got nothing$"),
    ):
        with pytest.raises(ValueError, match=place):
            opt.load_state_dict(whole)

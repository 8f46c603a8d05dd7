"""Schedule-free AdamW has the numbers of the package of its authors, in training and evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import thalweg
from thalweg import schedule

torch = pytest.importorskip("torch")
schedulefree = pytest.importorskip("schedulefree")

CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"lr": 0.01, "weight_decay": 0.0}, {"lr": 0.01}),
    (
        {"lr": schedule.constant(0.05, warmup=40), "weight_decay": 0.1, "betas": (0.95, 0.99)},
        {"lr": 0.05, "warmup_steps": 40, "weight_decay": 0.1, "betas": (0.95, 0.99)},
    ),
    (
        {"lr": schedule.constant(0.02, warmup=10), "weight_decay": 0.01, "r": 0.5, "eps": 1e-6},
        {"lr": 0.02, "warmup_steps": 10, "weight_decay": 0.01, "r": 0.5, "eps": 1e-6},
    ),
    (
        {"lr": 0.02, "weight_decay": 0.01, "r": 2.0, "weight_lr_power": 0.0, "betas": (0.3, 0.9)},
        {"lr": 0.02, "weight_decay": 0.01, "r": 2.0, "weight_lr_power": 0.0, "betas": (0.3, 0.9)},
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), CASES)
@pytest.mark.parametrize("foreach", [False, True])
def test_two_hundred_steps_agree(
    ours: dict[str, Any], theirs: dict[str, Any], *, foreach: bool
) -> None:
    rng = np.random.default_rng(0)
    start, goal = rng.standard_normal((2, 7, 5))
    params = {"w": start.copy()}
    opt = thalweg.ScheduleFreeAdamW(params, **ours)
    tensor = torch.nn.Parameter(torch.from_numpy(start.copy()))
    other = schedulefree.AdamWScheduleFree([tensor], foreach=foreach, **theirs)
    other.train()
    for step in range(1, 201):
        noise = rng.standard_normal(goal.shape)
        opt.step({"w": params["w"] - goal + noise})
        tensor.grad = tensor.detach() - torch.from_numpy(goal - noise)
        other.step()
        assert close(params["w"], tensor)
        assert close(opt.state["w"]["z"], other.state[tensor]["z"])
        if step % 20 == 0:
            other.eval()
            with opt.averaged() as averaged:
                assert close(averaged["w"], tensor)
            other.train()
            assert close(params["w"], tensor)


def close(array: Any, tensor: Any) -> bool:
    return bool(np.abs(array - tensor.detach().numpy()).max() < 1e-12)

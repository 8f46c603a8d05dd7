"""The torch column of the table in `docs/schedules.md` has torch's learning rates."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from thalweg import schedule as s  # noqa: E402

L = torch.optim.lr_scheduler

N, W, m = 100, 20, 30
a, b, f, r = 0.7, 0.1, 0.3, 0.9

ROWS: dict[str, tuple[Any, float, Any]] = {
    "LinearLR": (
        s.linear(N + 1, peak=a, final=b),
        1.0,
        lambda opt: L.LinearLR(opt, a, b, total_iters=N),
    ),
    "PolynomialLR": (
        s.polynomial(N + 1, 2.5, peak=a, final=0.0),
        a,
        lambda opt: L.PolynomialLR(opt, N, 2.5),
    ),
    "CosineAnnealingLR": (
        s.cosine(N + 1, peak=a, final=b),
        a,
        lambda opt: L.CosineAnnealingLR(opt, T_max=N, eta_min=b),
    ),
    "ExponentialLR": (s.exponential(r), 1.0, lambda opt: L.ExponentialLR(opt, r)),
    "StepLR": (
        s.exponential(r, steps=7, staircase=True),
        1.0,
        lambda opt: L.StepLR(opt, 7, r),
    ),
    "MultiStepLR": (
        s.piecewise_constant({1: a, m + 1: a * r}),
        a,
        lambda opt: L.MultiStepLR(opt, [m], r),
    ),
    "CosineAnnealingWarmRestarts": (
        s.cosine_restarts(10, 1, peak=a, final=b),
        a,
        lambda opt: L.CosineAnnealingWarmRestarts(opt, 10, 1, b),
    ),
    "CosineAnnealingWarmRestarts that grow": (
        s.cosine_restarts(7, 2, peak=a, final=b),
        a,
        lambda opt: L.CosineAnnealingWarmRestarts(opt, 7, 2, b),
    ),
    "OneCycleLR": (s.one_cycle(N, peak=a), 1.0, lambda opt: L.OneCycleLR(opt, a, total_steps=N)),
    "OneCycleLR in three phases": (
        s.one_cycle(N, peak=a, three_phase=True),
        1.0,
        lambda opt: L.OneCycleLR(opt, a, total_steps=N, three_phase=True),
    ),
    "OneCycleLR with options": (
        s.one_cycle(N, peak=a, pct_start=0.25, div=10, final_div=50, shape="linear"),
        1.0,
        lambda opt: L.OneCycleLR(
            opt,
            a,
            total_steps=N,
            pct_start=0.25,
            div_factor=10,
            final_div_factor=50,
            anneal_strategy="linear",
        ),
    ),
    "CyclicLR": (s.triangular(b, a, 10, 30), b, lambda opt: L.CyclicLR(opt, b, a, 10, 30)),
    "CyclicLR, triangular2": (
        s.triangular(b, a, 10, 30, decay=0.5),
        b,
        lambda opt: L.CyclicLR(opt, b, a, 10, 30, mode="triangular2"),
    ),
    "CyclicLR, exp_range": (
        b + s.triangular(0, a - b, 10) * s.exponential(0.97),
        b,
        lambda opt: L.CyclicLR(opt, b, a, 10, mode="exp_range", gamma=0.97),
    ),
    "ConstantLR, multiplied": (
        s.warmup(s.constant(), steps=W, kind="constant", start=f) * s.exponential(r),
        1.0,
        lambda opt: L.ChainedScheduler([L.ConstantLR(opt, f, W - 1), L.ExponentialLR(opt, r)]),
    ),
    "LinearLR, then another": (
        s.linear(W + 1, peak=f, final=1.0).then(s.exponential(r), at=W + 1),
        1.0,
        lambda opt: L.SequentialLR(
            opt, [L.LinearLR(opt, f, total_iters=W), L.ExponentialLR(opt, r)], [W]
        ),
    ),
    "SequentialLR": (
        s.exponential(r).then(s.linear(51), at=m + 1),
        1.0,
        lambda opt: L.SequentialLR(
            opt, [L.ExponentialLR(opt, r), L.LinearLR(opt, 1.0, 0.0, total_iters=50)], [m]
        ),
    ),
    "ChainedScheduler": (
        s.exponential(r) * s.exponential(0.5, steps=7, staircase=True),
        1.0,
        lambda opt: L.ChainedScheduler([L.ExponentialLR(opt, r), L.StepLR(opt, 7, 0.5)]),
    ),
    "LambdaLR": (
        s.zero_based(lambda n: 1 / (n + 1)),
        1.0,
        lambda opt: L.LambdaLR(opt, lambda n: 1 / (n + 1)),
    ),
}


def values(make: Any, lr: float, key: str = "lr") -> list[float]:
    """The values that the first N steps of torch's SGD use."""
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
    scheduler = make(opt)
    used = []
    for _ in range(N):
        used.append(opt.param_groups[0][key])
        opt.step()
        scheduler.step()
    return used


@pytest.mark.filterwarnings("ignore:The epoch parameter")  # torch 2.4 warns about its own call
@pytest.mark.parametrize(("ours", "lr", "theirs"), ROWS.values(), ids=ROWS)
def test_learning_rates_equal_those_of_torch(ours: Any, lr: float, theirs: Any) -> None:
    mine = [ours(step) for step in range(1, N + 1)]
    # torch computes a rate from the one before, so rounding errors of the peak's size add up.
    assert mine == pytest.approx(values(theirs, lr), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("three_phase", [False, True])
def test_momentum_of_one_cycle_is_that_of_torch(three_phase: bool) -> None:
    ours = s.one_cycle(N, three_phase=three_phase).momentum(0.8, 0.9)
    theirs = values(
        lambda opt: L.OneCycleLR(
            opt,
            a,
            total_steps=N,
            base_momentum=0.8,
            max_momentum=0.9,
            three_phase=three_phase,
        ),
        1.0,
        key="momentum",
    )
    assert [ours(step) for step in range(1, N + 1)] == pytest.approx(theirs, rel=1e-12)

"""Steps of thalweg.torch.AdamW and of torch's own AdamW, on the same tensors.

    python benches/torch_steps.py                    # three minutes
    python benches/torch_steps.py --only mlp many    # these models

The gradients are given; what is timed is `step`. Before that all are checked to do the same.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch

import thalweg
import thalweg.torch
from thalweg.cli.bench.cases import NAMES, SMALLER, Case, draw_gradients, draw_parameters, large
from thalweg.cli.bench.rounds import Effort, Entry, Measurement
from thalweg.cli.bench.stepper import Step

KINDS = {
    "torch, fused": lambda params: torch.optim.AdamW(params, fused=True),
    "thalweg": thalweg.torch.AdamW,
    "thalweg, ignore": lambda params: thalweg.torch.AdamW(params, nonfinite="ignore"),
    "torch, foreach": lambda params: torch.optim.AdamW(params, foreach=True),
    "torch, default": torch.optim.AdamW,
}
LARGE = 33_554_432
SAMPLE_SECONDS = 0.05
"""Each in turn for so long, as threads of OpenMP go on spinning for a while after a step."""
STEPS = 20
EPSILONS = 50
"""How far float32 parameters may be from those of torch after so many steps."""


def tensors(case: Case) -> list[Any]:
    """Parameters with their gradients, the same each time, in memory that torch has allocated."""
    params = [torch.nn.Parameter(torch.tensor(p)) for p in draw_parameters(case).values()]
    for param, gradient in zip(params, draw_gradients(case).values(), strict=True):
        param.grad = torch.tensor(gradient)
    return params


def check(case: Case) -> None:
    """End the benchmark unless all kinds make the same steps, on a small copy of the model."""
    allowed = EPSILONS * torch.finfo(torch.float32).eps
    results = {}
    for kind, make in KINDS.items():
        params = tensors(case.small_copy())
        opt = make(params)
        for _ in range(STEPS):
            opt.step()
        results[kind] = torch.cat([param.detach().flatten() for param in params])
    theirs = results["torch, fused"]
    for kind, ours in results.items():
        if (off := float((ours - theirs).abs().max())) > allowed:
            sys.exit(f"{kind} is {off} away from torch's fused AdamW; nothing was timed")


def entries(case: Case) -> dict[str, Entry]:
    """What is timed."""
    steps = {kind: make(tensors(case)).step for kind, make in KINDS.items()}
    return {kind: Entry(Step(step), always=True) for kind, step in steps.items()}


def main() -> None:
    """Print a table for each model."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--seconds", type=float, default=30, help="for each model (default 30)")
    parser.add_argument("--elements", type=int, default=LARGE, help="of the large tensor")
    given = parser.parse_args()
    torch.set_num_threads(thalweg.get_num_threads())
    print(
        f"torch {torch.__version__}, thalweg {thalweg.__version__}, {thalweg.get_cpu_level()}, "
        f"{thalweg.get_num_threads()} threads"
    )
    for name in given.only:
        case = SMALLER[name] if name in SMALLER else large(given.elements)
        check(case)
        print(f"\n{case.title}")
        effort = Effort(given.seconds, 5, 1000, SAMPLE_SECONDS)
        times = Measurement(entries(case), effort).run(lambda: None)
        fused = times["torch, fused"]
        for kind, taken in times.items():
            print(f"  {kind:16}{taken.median * 1e6:12,.1f} µs {taken.ratio(fused):7.2f}")


if __name__ == "__main__":
    main()

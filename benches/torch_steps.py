"""Times of steps of thalweg.torch.AdamW and of torch's AdamW, in memory that torch has allocated.

    python benches/torch_steps.py                    # six minutes
    python benches/torch_steps.py --only mlp many    # these models

Gradients are fixed, and only `step` is timed. All results are checked against the reference first.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import thalweg.torch
from sections import compare
from thalweg import machine
from thalweg.cli.arguments import integer
from thalweg.cli.bench.cases import NAMES, SMALLER, large
from thalweg.cli.bench.contenders import BASELINE, CONTENDERS
from thalweg.cli.bench.display import print_setting
from thalweg.cli.bench.rounds import Effort
from thalweg.cli.bench.torch_adamw import TorchAdamW

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = CONTENDERS["thalweg-torch"]
KINDS = [
    replace(OURS, name=BASELINE),
    replace(
        OURS,
        name="ignore",
        label="the same, ignore",
        build=partial(TorchAdamW, make=thalweg.torch.AdamW, nonfinite="ignore"),
        gradient_reads=1,
    ),
    CONTENDERS["torch-fused"],
    replace(
        CONTENDERS["torch-loop"],
        name="torch-foreach",
        label="torch AdamW, foreach",
        build=partial(TorchAdamW, foreach=True),
    ),
    CONTENDERS["torch-loop"],
]
LARGE = 33_554_432
SAMPLE_SECONDS = 0.05
"""Long samples, because threads of OpenMP spin for a while after a step."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print two tables for each model."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--seconds", type=float, default=30, help="for each table (default 30)")
    parser.add_argument("--rounds", type=integer(1), help="samples of each, not as many as fit")
    parser.add_argument("--elements", type=integer(1), default=LARGE, help="of the large tensor")
    given = parser.parse_args(argv)
    print_setting(machine.facts(["torch"]), [])
    effort = Effort(given.seconds, 5, 1000, SAMPLE_SECONDS).limited(given.rounds)
    for name in given.only:
        compare(SMALLER.get(name) or large(given.elements), KINDS, effort)
    return 0


if __name__ == "__main__":
    sys.exit(main())

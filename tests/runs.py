"""Runs that can be interrupted anywhere: groups, schedules in mid-cycle, skipped and partial steps,
half-filled accumulators, averages.

As a program, it resumes runs that another process saved:

    python tests/runs.py DIRECTORY MICRO_STEPS

loads ``DIRECTORY/<name>.safetensors`` for every run, advances it, and prints its fingerprint.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

import thalweg
from thalweg import schedule

RUNS: dict[str, tuple[type[thalweg.Optimizer], dict[str, Any]]] = {
    "adamw": (thalweg.AdamW, {"lr": 1e-2 * schedule.cosine(total=40, warmup=5)}),
    "amsgrad": (thalweg.AdamW, {"amsgrad": True, "independent": True, "weight_decay": 1e-3}),
    "adam": (thalweg.Adam, {"l2": 0.1, "betas": (schedule.one_cycle(total=30).momentum(), 0.9)}),
    "ascent": (thalweg.Adam, {"maximize": True, "lr": schedule.cosine_restarts(7) * 0.01}),
    "nadamw": (thalweg.NAdamW, {"lr": 1e-2 * schedule.cosine(total=40)}),
    "radamw": (thalweg.RAdamW, {"lr": 1e-2, "betas": (0.8, 0.99)}),
    "adabelief": (thalweg.AdaBelief, {"lr": 1e-2, "eps_root": 1e-12}),
    "rmsprop": (thalweg.RMSprop, {"lr": 1e-2, "momentum": 0.9, "centered": True}),
    "adagrad": (thalweg.Adagrad, {"lr": 1e-2, "lr_decay": 0.1, "initial_accumulator_value": 0.1}),
    "schedule_free": (
        thalweg.ScheduleFreeAdamW,
        {
            "lr": schedule.constant(1e-2, warmup=9),
            "betas": (schedule.one_cycle(total=30).momentum(), 0.99),
        },
    ),
    "lion": (thalweg.Lion, {"lr": 1e-3 * schedule.cosine(total=40), "betas": (0.9, 0.95)}),
    "sgd": (thalweg.SGD, {"lr": 0.1}),
    "momentum": (thalweg.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "l2": 1e-3}),
    "sgdw": (thalweg.SGDW, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
}


class Run:
    """A run of one rule in micro-steps; an accumulator makes a step of two micro-steps."""

    def __init__(self, name: str, size: int = 140_000) -> None:
        cls, options = RUNS[name]
        rng = np.random.default_rng(1)
        self.rng = np.random.default_rng(2)
        self.params = {
            "large": rng.standard_normal(size).astype(np.float32),
            "fc": [
                {"w": rng.standard_normal((5, 3)).T, "b": np.ones(5, np.float32)},
                {"w": rng.standard_normal((3, 4)).astype(np.float32)[:, ::2], "b": np.ones(())},
            ],
            "base": np.arange(3),
        }
        groups: list[dict[str, Any]] = [
            {"match": "base", "frozen": True},
            {"match": "*.b", "lr_scale": 0.5, "name": "biases"},
            {"match": "fc.0.*", "lr": schedule.triangular(1e-3, 3e-3, up=6)},
        ]
        self.opt = cls(self.params, groups=groups, nonfinite="skip", **options)
        self.ema = thalweg.EMA(self.opt, decay=0.9, bias_correction=True)
        self.slow = thalweg.EMA(self.opt, decay=0.99, name="slow")
        self.acc = thalweg.Accumulator(self.opt)

    def advance(self, micro_steps: int) -> None:
        """Take `micro_steps` micro-steps."""
        for _ in range(micro_steps):
            number = self.acc.count + 2 * (self.opt.step_count + self.opt.skip_count)
            grads: dict[str, Any] = {
                name: self.rng.standard_normal(array.shape)
                for name, array in self.opt.params.items()
                if name != "base"
            }
            if number % 10 == 4:
                grads["fc.1.w"][0, 0] = np.nan  # this step will be skipped
            if number % 6 in (2, 3):
                grads["fc.0.b"] = None  # no gradient in either micro-step of the step
            self.acc.add(grads, weight=1 + number % 3)
            if self.acc.count == 2:
                report = self.opt.step(self.acc.grads, scale=1 / self.acc.weight, max_norm=100.0)
                self.acc.clear()
                if not report.skipped:
                    self.ema.update()
                    self.slow.update()

    def save(self, path: Path) -> None:
        """Save the run, with its random generator."""
        self.opt.save(path, extra={"rng": self.rng.bit_generator.state})

    def load(self, path: Path) -> thalweg.LoadReport:
        """Load the run, with its random generator."""
        report = self.opt.load(path)
        self.rng.bit_generator.state = report.extra["rng"]
        return report

    def fingerprint(self) -> str:
        """Hash of the complete state of the run."""
        digest = hashlib.sha256()
        saved = self.opt.state_dict(copy=False)
        for name, array in self.opt.params.items():
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        for holder in (saved, *saved["attached"].values()):
            for name, leaf in holder["state"].items():
                for key, value in sorted(leaf.items()):
                    digest.update(f"{name} {key}".encode() + np.asarray(value).tobytes())
        counts = [self.opt.step_count, self.opt.skip_count, self.opt.consecutive_skips]
        counts += [self.ema.count, self.slow.count, self.acc.count]
        digest.update(repr((counts, self.acc.weight, self.rng.bit_generator.state)).encode())
        digest.update(repr([repr(group) for group in self.opt.groups]).encode())
        return digest.hexdigest()


def main() -> None:
    """Resume every run of a directory."""
    directory, micro_steps = Path(sys.argv[1]), int(sys.argv[2])
    for name in RUNS:
        run = Run(name)
        run.load(directory / f"{name}.safetensors")
        run.advance(micro_steps)
        print(name, run.fingerprint())  # noqa: T201 - a program that prints


if __name__ == "__main__":
    main()

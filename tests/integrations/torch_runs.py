"""Runs of an optimizer of torch or of `thalweg.torch`, for tests that compare both."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import torch


class Run:
    """Three parameters, the last of which joins late, trained on fixed gradients."""

    def __init__(
        self, library: Any, rule: str, options: dict[str, Any], dtype: Any = torch.float32
    ) -> None:
        self.dtype = dtype
        generator = torch.Generator().manual_seed(0)
        self.params = [
            torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
            for shape in ((4, 3), (), (5,))
        ]
        groups = [{"params": self.params[:2]}, {"params": self.params[2:], "lr": 0.02}]
        self.opt = getattr(library, rule)(groups, **options)
        self.done = 0

    def train(self, steps: int) -> Run:
        for _ in range(steps):
            self.done += 1
            generator = torch.Generator().manual_seed(self.done)
            for i, param in enumerate(self.params):
                gradient = torch.randn(param.shape, generator=generator, dtype=self.dtype)
                param.grad = None if i == 2 and self.done <= 8 else gradient
            self.opt.step()
        return self

    def resumed(self, library: Any, rule: str, options: dict[str, Any]) -> Run:
        """The same, of that library, through a file."""
        file = BytesIO()
        torch.save({"params": self.params, "opt": self.opt.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        other = Run(library, rule, options, self.dtype)
        with torch.no_grad():
            for param, value in zip(other.params, saved["params"], strict=True):
                param.copy_(value)
        other.opt.load_state_dict(saved["opt"])
        other.done = self.done
        return other

    def close(self, other: Run) -> bool:
        pairs = zip(self.params, other.params, strict=True)
        limits = {"rtol": 1e-5, "atol": 1e-6}
        if self.dtype is torch.float64:
            limits = {"rtol": 1e-12, "atol": 1e-12}
        return all(torch.allclose(a, b, **limits) for a, b in pairs)

    def equal(self, other: Run) -> bool:
        mine, its = self.opt.state_dict(), other.opt.state_dict()
        return (
            all(torch.equal(a, b) for a, b in zip(self.params, other.params, strict=True))
            and mine["param_groups"] == its["param_groups"]
            and mine["state"].keys() == its["state"].keys()
            and all(
                torch.equal(value, its["state"][i][key])
                for i, state in mine["state"].items()
                for key, value in state.items()
            )
        )

"""PyTorch's AdamW on the CPU. Only imported where torch is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

import thalweg
from thalweg.cli.bench.formulas import BETAS, EPS, LR, WEIGHT_DECAY
from thalweg.cli.bench.stepper import Step

if TYPE_CHECKING:
    from thalweg.cli.bench.formulas import Array, Arrays


class TorchAdamW:
    """``torch.optim.AdamW``, fused or as a loop, on tensors that share memory with the arrays."""

    def __init__(self, params: Arrays, *, fused: bool) -> None:
        torch.set_num_threads(thalweg.get_num_threads())
        self._params = params
        self._tensors = {
            name: torch.nn.Parameter(torch.from_numpy(p)) for name, p in params.items()
        }
        self._optimizer = torch.optim.AdamW(
            self._tensors.values(),
            lr=LR,
            betas=BETAS,
            eps=EPS,
            weight_decay=WEIGHT_DECAY,
            foreach=False,
            fused=fused,
        )

    def bind(self, grads: Arrays) -> Step:
        """Assign the gradients, once."""
        for name, tensor in self._tensors.items():
            tensor.grad = torch.from_numpy(grads[name])
        return Step(self._optimizer.step)

    def parameters(self) -> Arrays:
        """Return the arrays that the tensors share."""
        return self._params

    def state(self) -> dict[str, list[Array]]:
        """Return arrays that share the memory of torch's moments."""
        states = self._optimizer.state
        return {
            name: [states[tensor][key].numpy() for key in ("exp_avg", "exp_avg_sq")]
            for name, tensor in self._tensors.items()
        }

"""PyTorch's optimizers on the CPU. Only imported where torch is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

import thalweg
from thalweg.cli.bench.formulas import BETAS, EPS, LR, WEIGHT_DECAY
from thalweg.cli.bench.stepper import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalweg.cli.bench.formulas import Array, Arrays


class TorchAdamW:
    """``torch.optim.AdamW``, or another maker with its arguments, on tensors in torch's memory."""

    def __init__(
        self,
        params: Arrays,
        make: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
        **options: Any,
    ) -> None:
        torch.set_num_threads(thalweg.get_num_threads())
        self._tensors = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in params.items()}
        self._optimizer = make(
            self._tensors.values(),
            lr=LR,
            betas=BETAS,
            eps=EPS,
            weight_decay=WEIGHT_DECAY,
            **options,
        )

    def bind(self, grads: Arrays) -> Step:
        """Assign the gradients, once; their memory is that of the arrays."""
        for name, tensor in self._tensors.items():
            tensor.grad = torch.from_numpy(grads[name])
        return Step(self._optimizer.step)

    def parameters(self) -> Arrays:
        """Return arrays that share the memory of the tensors."""
        return {name: tensor.detach().numpy() for name, tensor in self._tensors.items()}

    def state(self) -> dict[str, list[Array]]:
        """Return arrays that share the memory of torch's moments."""
        states = self._optimizer.state
        return {
            name: [states[tensor][key].numpy() for key in ("exp_avg", "exp_avg_sq")]
            for name, tensor in self._tensors.items()
        }

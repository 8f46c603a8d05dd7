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

    def written(self) -> dict[str, list[Array]]:
        """Return arrays that share the memory of the tensors and of the optimizer's moments."""
        states = self._optimizer.state
        return {
            name: [tensor.detach().numpy(), *_moments(states[tensor])]
            for name, tensor in self._tensors.items()
        }


def _moments(state: dict[str, Any]) -> list[Array]:
    """Return arrays of moments; of those in 8 bits, codes and scales, not the table of codes."""
    tensors = [
        value
        for key, value in state.items()
        if isinstance(value, torch.Tensor) and value.ndim and not key.startswith("qmap")
    ]
    # torchao's tensors hold theirs; bitsandbytes has them as entries of the state.
    parts = [(one.codes, one.scale) if hasattr(one, "codes") else (one,) for one in tensors]
    return [part.numpy() for pair in parts for part in pair]

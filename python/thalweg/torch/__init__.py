"""PyTorch on the CPU: `AdamW`, `Adam` and `SGD` in place of those of `torch.optim`.

They take torch's arguments and have torch's groups, hooks and state dicts; a step is thalweg's.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401 - to say what is missing
except ModuleNotFoundError as error:
    raise ImportError("thalweg.torch needs PyTorch: pip install 'thalweg[torch]'") from error

from thalweg.torch.optimizers import SGD, Adam, AdamW

__all__ = ["SGD", "Adam", "AdamW"]

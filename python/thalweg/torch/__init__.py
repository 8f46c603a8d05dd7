"""Optimizers for PyTorch on the CPU, as replacements for those of `torch.optim`.

They have torch's arguments, groups, hooks and state dicts; the step is thalweg's. Their state may
be smaller, and bfloat16 and float16 parameters keep every digit of a float32.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401 - for the message below
except ModuleNotFoundError as error:
    raise ImportError("thalweg.torch needs PyTorch: pip install 'thalweg[torch]'") from error

from thalweg.torch.adagrad import Adagrad
from thalweg.torch.adam import Adam, AdamW
from thalweg.torch.radam import RAdam
from thalweg.torch.rmsprop import RMSprop
from thalweg.torch.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "RAdam", "RMSprop"]

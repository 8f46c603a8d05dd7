"""States of optimizers from torch and optax to thalweg, and back.

A run that was begun in one library goes on in another: moments, momentum buffers and counts of
steps are carried over, of torch hyperparameters too. Parameters are not part of such a state, and
are carried over by themselves. Neither library is imported here.
"""

from thalweg.convert.loading import ConvertReport
from thalweg.convert.optax_in import from_optax
from thalweg.convert.optax_out import to_optax
from thalweg.convert.torch_in import from_torch
from thalweg.convert.torch_out import to_torch

__all__ = ["ConvertReport", "from_optax", "from_torch", "to_optax", "to_torch"]

"""Conversion of optimizer state between thalweg and torch or optax.

A run of one library continues in another: moments, momentum buffers and step counts are converted,
and hyperparameters of torch too. Parameters are not part of the state; copy them separately.
Neither library is imported here, unless ``tensors=True`` asks for torch tensors.
"""

from thalweg.convert.loading import ConvertReport
from thalweg.convert.optax_in import from_optax
from thalweg.convert.optax_out import to_optax
from thalweg.convert.torch_in import from_torch
from thalweg.convert.torch_out import to_torch

__all__ = ["ConvertReport", "from_optax", "from_torch", "to_optax", "to_torch"]

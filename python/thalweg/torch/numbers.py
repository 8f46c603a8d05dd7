"""Hyperparameters of torch's groups in the form of the core, and errors in torch's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from thalweg import _core
from thalweg.convert.torch_names import torch_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["in_torchs_words", "learning_rate", "number"]

WORDS = {
    "lr": "Invalid learning rate",
    "betas[0]": "Invalid beta parameter at index 0",
    "betas[1]": "Invalid beta parameter at index 1",
    "eps": "Invalid epsilon value",
    "weight_decay": "Invalid weight_decay value",
    "momentum": "Invalid momentum value",
    "alpha": "Invalid alpha value",
    "lr_decay": "Invalid lr_decay value",
    "initial_accumulator_value": "Invalid initial_accumulator_value value",
}


def in_torchs_words(
    configure: Callable[..., Any],
    *arguments: Any,
    classes: list[dict[str, Any]],
    options: Mapping[str, Any],
) -> None:
    """Call `configure`, and word the core's errors on hyperparameters as torch words them."""
    try:
        configure(*arguments)
    except (TypeError, ValueError) as error:
        for position, values in enumerate(classes):
            _check(position, values)
            still = values.get("momentum") == 0 or values.get("dampening") != 0
            if options.get("nesterov") and still:
                raise ValueError(
                    f"Nesterov momentum requires a momentum and zero dampening; {error}"
                ) from None
        raise


def _check(position: int, values: dict[str, Any]) -> None:
    for key, value in values.items():
        if key == "rows":
            _core.check_rows(value)
            continue
        name = torch_key(key)
        try:
            _core.check_hyperparameter(name, value)
        except ValueError as error:
            if name not in WORDS or (name == "eps" and value >= 0):
                raise
            raise ValueError(
                f"{WORDS[name]}: {value} in param_groups[{position}]; {error}"
            ) from None


def number(key: str, group: int, value: Any) -> Any:
    """A hyperparameter, taken out of a tensor of one element; the core checks its value.

    Raises
    ------
    ValueError
        For a tensor of another size.
    """
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise ValueError(
                f"Tensor {key} must be 1-element, got a tensor of shape {tuple(value.shape)} in "
                f"param_groups[{group}]"
            )
        return value.item()
    return value


def learning_rate(group: int, value: Any) -> Any:
    """The learning rate, with 0 in place of a tiny negative number from a scheduler's rounding."""
    lr = number("lr", group, value)
    # LinearLR(end_factor=0) was observed to end at -5e-17.
    return 0.0 if isinstance(lr, float) and -1e-12 < lr < 0 else lr

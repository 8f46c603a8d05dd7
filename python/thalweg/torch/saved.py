"""State as torch saves it, and as the core takes it over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thalweg.torch.bound import Bound, Slot

STEP_LIMIT = 2**63


def restored(bound: Bound, slot: Slot, saved: Mapping[str, Any]) -> dict[str, Any] | None:
    """Arrays and step of a parameter, or None if it was never updated.

    Raises
    ------
    ValueError
        If what was saved is not what the rule needs.
    """
    live = bound.native._state(slot.name) or {}
    never = saved.get("momentum_buffer") is None and "exp_avg" not in saved
    if not saved or ("momentum_buffer" in live and never):
        return None
    counted = bound.options["adam"]
    needed = [*live, *(["step"] if counted else [])]
    if any(saved.get(key) is None for key in needed):
        raise ValueError(
            f"the saved state of {slot.name!r} has {', '.join(map(str, saved))}, and needs "
            f"{', '.join(needed)}; it is that of another optimizer, or of other options"
        )
    # torch's SGD keeps no count; that there is a buffer tells the first step from later ones.
    step = _whole(slot.name, saved.get("step", 1))
    return {**{key: _array(slot, key, saved[key]) for key in live}, "step": step}


def _array(slot: Slot, key: str, value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.shape != slot.param.shape:
        shape = tuple(getattr(value, "shape", ()))
        raise ValueError(
            f"the saved {key} of {slot.name!r} is a {type(value).__name__} of shape {shape}, must "
            f"be a tensor of shape {tuple(slot.param.shape)}"
        )
    return value.detach().to(device="cpu", dtype=slot.param.dtype).numpy()


def _whole(name: str, value: Any) -> int:
    step = value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
    if not isinstance(step, int | float) or step % 1 != 0 or not 0 <= step < STEP_LIMIT:
        raise ValueError(f"the saved step of {name!r} is {value!r}, must be a whole number")
    return int(step)

"""Checks and conversion of torch's state, from a state dict or assigned in `state`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from thalweg.convert.torch_names import is_flat, is_state_dict, not_torchs
from thalweg.groups.rule import STATE_NAMES
from thalweg.state.form import STEP_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thalweg.torch.bound import Bound, Slot

__all__ = ["check_state_dict", "extras", "own_keys", "restored"]

KEYS = ("step", *STATE_NAMES)


def check_state_dict(saved: Any) -> None:
    """Check that `saved` is a state dict of one optimizer.

    Raises
    ------
    ValueError
        With a remedy, if it is a whole checkpoint or flattened.
    """
    if not isinstance(saved, Mapping):
        return  # torch refuses it
    if is_flat(saved):
        raise ValueError(
            "the state dict is flattened; load it by torch.distributed.checkpoint.state_dict."
            "set_optimizer_state_dict with StateDictOptions(flatten_optimizer_state_dict=True)"
        )
    if not is_state_dict(saved):
        raise ValueError(not_torchs(saved))


def own_keys(bound: Bound, slot: Slot) -> list[str]:
    """Keys of the `state` of an updated parameter, as in torch."""
    return [*(["step"] if bound.counted else []), *(bound.native.state(slot.name) or {})]


def extras(entry: Mapping[Any, Any], own: Iterable[str]) -> dict[Any, Any]:
    """Entries that other programs keep in `state`."""
    return {key: value for key, value in entry.items() if key not in own}


def restored(
    bound: Bound, slot: Slot, entry: Mapping[Any, Any], *, live: bool = False
) -> dict[str, Any] | None:
    """Arrays and step of a parameter, or None if it was never updated.

    Parameters
    ----------
    bound : Bound
        The native optimizer.
    slot : Slot
        The parameter.
    entry : mapping
        The parameter's entry in a state dict or in `state`.
    live : bool
        True if `entry` is from `state`.

    Raises
    ------
    TypeError, ValueError
        If `entry` does not fit the rule or the parameter.
    """
    where = "opt.state" if live else "the saved state"
    if not isinstance(entry, dict):
        raise TypeError(f"{where} of {slot.name!r} must be a dict, got {type(entry).__name__}")
    adam, own = bound.counted, own_keys(bound, slot)
    begun = KEYS if adam else ("momentum_buffer", "exp_avg")
    if not entry or (own and all(entry.get(key) is None for key in begun)):
        return None
    missing = [key for key in own if entry.get(key) is None]
    if missing:
        got = ", ".join(str(key) for key, value in entry.items() if value is not None)
        way = "delete the whole entry to reset it" if live else "it belongs to another optimizer"
        raise ValueError(
            f"{where} of {slot.name!r} must have {', '.join(own)}, got "
            f"{got or 'nothing'}; {way}{('' if live else ', or to other options')}"
        )
    # torch's SGD has no count. Any count above 0 is right: only the first step is different.
    step = _whole(f"{where} of {slot.name!r}", entry["step"]) if adam else 1
    arrays = {
        key: _array(f"{key} of {slot.name!r} in {where}", slot.param, entry[key], live)
        for key in own
        if key != "step"
    }
    return {**arrays, "step": step}


def _array(what: str, param: Any, value: Any, live: bool) -> Any:
    if not isinstance(value, torch.Tensor) or value.shape != param.shape:
        shape = tuple(getattr(value, "shape", ()))
        raise ValueError(
            f"{what} must be a tensor of shape {tuple(param.shape)}, got a {type(value).__name__} "
            f"of shape {shape}"
        )
    plain = value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized
    if not plain or (live and value.dtype != param.dtype):
        raise ValueError(
            f"{what} must be {param.dtype}, dense on the CPU, got {value.dtype}, {value.layout} on "
            f"{value.device}"
        )
    if live and value.is_shared():
        raise ValueError(
            f"{what} must not be in memory shared between processes; assign a copy (clone), or use "
            "torch.optim"
        )
    return value.detach().resolve_neg().to(param.dtype).numpy()


def _whole(what: str, value: Any) -> int:
    step = value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
    if not isinstance(step, int | float) or step % 1 != 0 or not 0 <= step < STEP_LIMIT:
        raise ValueError(
            f"step of {what} must be a whole number from 0 to 2**63 - 1, got {value!r}"
        )
    return int(step)

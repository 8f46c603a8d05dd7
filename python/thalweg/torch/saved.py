"""Checks and conversion of torch's state, from a state dict or assigned in `state`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thalweg.compact.decoding import BASE, CODES, LOW
from thalweg.compact.encodings import BLOCK
from thalweg.convert.torch_names import is_flat, is_state_dict, not_torchs
from thalweg.groups.rule import STATE_NAMES
from thalweg.state.converted import converted
from thalweg.state.form import STEP_LIMIT
from thalweg.torch.tensors import BITS, bits_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from thalweg.torch.bound import Bound, Slot

__all__ = ["PARTS", "check_state_dict", "extras", "hidden", "kept", "own_keys", "restored", "seen"]

KEYS = ("step", *STATE_NAMES)
PARTS = (LOW, *(name + BASE for name in STATE_NAMES))
"""Keys that only thalweg's smaller state has."""
NAMES = {BITS: torch.bfloat16, CODES: torch.uint8, np.dtype(np.int16): torch.int16}


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


class Hidden:
    """A tensor that torch neither casts nor moves."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor


def hidden(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict with all tensors of the rules' state hidden."""
    return {**saved, "state": {key: _hidden(entry) for key, entry in saved["state"].items()}}


def _hidden(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    own = {key for key in (*KEYS, *PARTS) if isinstance(entry.get(key), torch.Tensor)}
    return {key: Hidden(value) if key in own else value for key, value in entry.items()}


def seen(state: Mapping[Any, Any]) -> dict[Any, Any]:
    """State by parameter in which tensors were hidden, with the tensors on the CPU.

    Those on the meta device, which have no numbers, stay there.
    """
    return {
        param: {k: _on_cpu(v.tensor) if isinstance(v, Hidden) else v for k, v in entry.items()}
        if isinstance(entry, dict)
        else entry
        for param, entry in state.items()
    }


def _on_cpu(tensor: Any) -> Any:
    return tensor if tensor.is_meta else tensor.cpu()


def kept(entry: Any) -> bool:
    """Whether a parameter that requires no grad needs memory for its saved state.

    torch's Adagrad saves a sum for each parameter, also for those that were never updated.
    """
    if isinstance(entry, dict) and entry.keys() == {"step", "sum"}:
        step = _single(entry["step"])
        return not (isinstance(step, int | float) and step == 0)
    return bool(entry)


def own_keys(bound: Bound, slot: Slot) -> list[str]:
    """Keys of the `state` of an updated parameter; with full state, as in torch."""
    return [*(["step"] if bound.counted else []), *(bound.native.state(slot.name) or {})]


def extras(entry: Mapping[Any, Any], own: Iterable[str]) -> dict[Any, Any]:
    """Entries that other programs keep in `state`."""
    left = {key: value for key, value in entry.items() if key not in own}
    # Parts of smaller state that was converted say nothing about the state here.
    small = (torch.int16, torch.uint8)
    parts = [key for key in PARTS if getattr(left.get(key), "dtype", None) in small]
    return {key: value for key, value in left.items() if key not in parts}


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
    state = bound.native.state(slot.name) or {}
    here = {key: (array.dtype, array.shape) for key, array in state.items()}
    names = [key for key in here if key not in PARTS]
    if not entry or (names and all(entry.get(key) is None for key in (*KEYS, *PARTS))):
        return None
    if _has_no_momentum(entry, names):  # as in torch, it begins with the next gradient
        return _without_momentum(where, slot, entry, here, live=live)
    # In a state dict, the count of torch's SGD may be missing: any count above 0 is right, because
    # only the first step is different.
    needed = [*(["step"] if bound.counts or (live and bound.counted) else []), *names]
    for key in names:
        codes = key + BASE in here if live else _dtype(entry.get(key)) is torch.uint8
        needed += [key + BASE] if codes else []
    missing = [key for key in needed if entry.get(key) is None]
    if missing:
        got = ", ".join(str(key) for key, value in entry.items() if value is not None)
        way = "delete the whole entry to reset it" if live else "it belongs to another optimizer"
        raise ValueError(
            f"{where} of {slot.name!r} must have {', '.join(needed)}, got "
            f"{got or 'nothing'}; {way}{('' if live else ', or to other options')}"
        )
    count = entry.get("step") if bound.counted else None
    step = 1 if count is None else _whole(f"{where} of {slot.name!r}", count)
    keys = [key for key in needed if key != "step"]
    arrays = {key: _array(where, slot, key, entry[key], here, live=live) for key in keys}
    initial = bound.classes[slot.group].get("initial_accumulator_value")
    if step == 0 and initial is not None:
        _check_initial(where, slot, entry["sum"], initial, live=live)
        return None
    return {**_fitted(arrays, _low(where, slot, entry, here, live=live), here), "step": step}


def _check_initial(where: str, slot: Slot, total: Any, initial: float, *, live: bool) -> None:
    """Refuse a sum that the first update would not read; it begins at `initial`."""
    if live:
        raise ValueError(
            f"step of {where} of {slot.name!r} must be at least 1, because the first update begins "
            "the sum at initial_accumulator_value, got 0; delete the whole entry to reset it"
        )
    if not bool((total == initial).all()):
        raise ValueError(
            f"sum of {slot.name!r} in {where} must be initial_accumulator_value, {initial}, at "
            "step 0; set this value in the state dict's group, or a step of at least 1"
        )


def _dtype(value: Any) -> Any:
    return getattr(value, "dtype", None)


def _has_no_momentum(entry: Mapping[Any, Any], names: list[str]) -> bool:
    keys = ("momentum_buffer", "exp_avg")
    return names == ["momentum_buffer"] and all(entry.get(key) is None for key in keys)


def _without_momentum(
    where: str, slot: Slot, entry: Mapping[Any, Any], here: Mapping[str, Any], *, live: bool
) -> dict[str, Any] | None:
    """What completes a narrow parameter, without any update."""
    low = _low(where, slot, entry, here, live=live)
    if not low:
        return None
    dtype, shape = here["momentum_buffer"]
    return {**low, "momentum_buffer": np.zeros(shape, dtype), "step": 0}


def _low(
    where: str, slot: Slot, entry: Mapping[Any, Any], here: Mapping[str, Any], *, live: bool
) -> dict[str, Any]:
    """What a narrow parameter lacks: zeros if that is missing."""
    if LOW not in here:
        return {}
    if entry.get(LOW) is None:
        dtype, shape = here[LOW]
        return {LOW: np.zeros(shape, dtype)}
    return {LOW: _array(where, slot, LOW, entry[LOW], here, live=live)}


def _fitted(arrays: dict[str, Any], low: dict[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays in the formats that the state has here."""
    found = converted({**arrays, **low}, here)
    found.pop("step", None)
    return {key: array.astype(here[key][0], copy=False) for key, array in found.items()}


def _array(
    where: str, slot: Slot, key: str, value: Any, here: Mapping[str, Any], *, live: bool
) -> NDArray[Any]:
    """The array of a tensor; bits of bfloat16 and codes as they are, other numbers whole."""
    what, param = f"{key} of {slot.name!r} in {where}", slot.param
    whole = torch.float64 if param.dtype is torch.float64 else torch.float32
    blocks = key in PARTS and key != LOW
    shape = (-(-param.numel() // BLOCK),) if blocks else tuple(param.shape)
    if not isinstance(value, torch.Tensor) or value.shape != shape:
        raise ValueError(
            f"{what} must be a tensor of shape {shape}, got a {type(value).__name__} of shape "
            f"{tuple(getattr(value, 'shape', ()))}"
        )
    if key in PARTS:
        dtype = torch.int16 if key == LOW else torch.uint8
    elif live:
        dtype = NAMES.get(here[key][0], whole)
    else:
        kept = value.dtype in {torch.bfloat16, torch.uint8}
        dtype = value.dtype if kept else whole
    plain = value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized
    if not plain or ((live or key in PARTS) and value.dtype != dtype):
        raise ValueError(
            f"{what} must be {dtype}, dense on the CPU, got {value.dtype}, {value.layout} on "
            f"{value.device}"
        )
    if live and value.is_shared():
        raise ValueError(
            f"{what} must not be in memory shared between processes; assign a copy (clone), or use "
            "torch.optim"
        )
    value = value.detach().resolve_neg().to(dtype)
    array: NDArray[Any] = bits_of(value) if dtype is torch.bfloat16 else value.numpy()
    return array


def _single(value: Any) -> Any:
    """A number out of a tensor of one element; anything else unchanged."""
    one = isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_meta
    return value.item() if one else value


def _whole(what: str, value: Any) -> int:
    step = _single(value)
    if not isinstance(step, int | float) or step % 1 != 0 or not 0 <= step < STEP_LIMIT:
        raise ValueError(
            f"step of {what} must be a whole number from 0 to 2**63 - 1, got {value!r}"
        )
    return int(step)

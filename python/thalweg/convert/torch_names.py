"""State dicts of torch with names as keys, as in FSDP and distributed checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thalweg.convert.arrays import number
from thalweg.groups.matching import some
from thalweg.state.whole import hint

__all__ = ["CONVERTED", "is_flat", "is_state_dict", "nested", "not_torchs", "torch_key"]

CONVERTED = ("AdamW", "Adam", "RAdamW", "RMSprop", "Adagrad", "SGDW", "SGD")
"""Rules whose state torch has."""

STATE, GROUPS = "state.", "param_groups."


def torch_key(key: str) -> str:
    """The name of a hyperparameter in torch, where both kinds of decay have one name."""
    return "weight_decay" if key == "l2" else key


def is_state_dict(value: Any) -> bool:
    """Whether `value` has the form of a state dict of torch, flattened or not."""
    if not isinstance(value, Mapping):
        return False
    states, groups = value.get("state"), value.get("param_groups")
    return (isinstance(states, Mapping) and isinstance(groups, list | tuple)) or is_flat(value)


def not_torchs(value: Mapping[Any, Any], way: str = "") -> str:
    """The message for a mapping that is no state dict of torch; `way` is the default advice."""
    return (
        "not a state dict of torch.optim: it must have 'state' and 'param_groups', got "
        f"{some([*map(repr, value)]) or 'nothing'}{hint(value, is_state_dict) or way}"
    )


def is_flat(value: Mapping[Any, Any]) -> bool:
    """Whether each key is ``state.NAME.KEY`` or ``param_groups.NAME.KEY``."""
    keys = [key for key in value if isinstance(key, str) and key.startswith((STATE, GROUPS))]
    return 0 < len(keys) == len(value) and any(key.startswith(GROUPS) for key in keys)


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The nested form of a flat state dict; names with equal hyperparameters form a group."""
    state: dict[str, dict[str, Any]] = {}
    values: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        into, prefix = (state, STATE) if key.startswith(STATE) else (values, GROUPS)
        name, _, last = key.removeprefix(prefix).rpartition(".")
        into.setdefault(name, {})[last] = value
    groups: dict[str, dict[str, Any]] = {}
    for name, group in values.items():
        same = repr([(key, number(value)) for key, value in group.items() if key != "param_names"])
        groups.setdefault(same, {**group, "params": []})["params"].append(name)
    return {"state": state, "param_groups": [*groups.values()]}

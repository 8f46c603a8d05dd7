"""State of `torch.optim`, taken over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thalweg.convert.arrays import fitted, whole
from thalweg.convert.loading import ConvertReport, Found, checked_count, zeros
from thalweg.convert.names import Order, held_of, transposed_names
from thalweg.convert.torch_groups import checked, names, read_groups
from thalweg.convert.torch_names import is_flat, nested
from thalweg.state.loading import Origin, load_state_dict

if TYPE_CHECKING:
    from thalweg.groups.matching import Match
    from thalweg.optimizer import Optimizer
    from thalweg.state.held import Held

__all__ = ["from_torch"]


def from_torch(
    state_dict: Mapping[str, Any],
    opt: Optimizer,
    *,
    params: Order | None = None,
    transpose: Match | None = None,
    hyperparameters: Literal["saved", "current"] = "saved",
    step_count: int | None = None,
    strict: bool = True,
) -> ConvertReport:
    """Take over a state dict of ``torch.optim.AdamW``, ``Adam`` or ``SGD``.

    Everything is checked before anything is changed.

    Parameters
    ----------
    state_dict : mapping
        As ``state_dict()`` returns it, of tensors or arrays, or FSDP and distributed checkpoints,
        whose keys are names; flattened or not. Numbers of another type are taken over where that is
        exact, as from bfloat16 or float16.
    opt : AdamW, Adam, SGD or SGDW
        Made for the same parameters.
    params : sequence of str, or sequence of sequences of str
        Names here in the order of torch's parameters, all in one or group by group. Default is
        the names that are keys of the state dict; or ``param_names`` if torch wrote them and all
        are names here; else, for one group, the order of the tree.
    transpose : str, sequence of str or callable
        Matrices that torch's model has transposed; a match as in a group. Without it shapes must be
        equal.
    hyperparameters : {"saved", "current"}
        Whose hyperparameters count from now on. With ``"saved"`` torch's groups replace those here
        if any number differs, and a warning lists what changed; what is frozen stays so.
    step_count : int
        Number of steps taken; default is that of the parameter that was updated most often. torch's
        SGD keeps no count: there the default is 1 if it has a momentum buffer, else 0.
    strict : bool, default True
        False takes over what fits and reports the rest.

    Returns
    -------
    ConvertReport
        As of ``load_state_dict``, with ``names`` and ``ignored``.

    Raises
    ------
    ValueError
        If it is no such state dict, or does not fit, listing every difference; nothing is changed
        then.
    TypeError
        If an argument is of another type.

    Notes
    -----
    Accumulators and averages of the optimizer stay as they are; `skip_count` is zero.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> saved = {
    ...     "state": {0: {"momentum_buffer": np.ones(2)}},
    ...     "param_groups": [{"lr": 0.1, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.0,
    ...                       "nesterov": False, "params": [0]}],
    ... }
    >>> opt = thalweg.SGD({"w": np.zeros(2)}, lr=0.1, momentum=0.9)
    >>> report = thalweg.convert.from_torch(saved, opt)
    >>> opt.state["w"]["momentum_buffer"], report.names
    (array([1., 1.]), ('w',))
    """
    held = held_of(opt)
    step_count = checked_count(step_count)
    if isinstance(state_dict, Mapping) and is_flat(state_dict):
        state_dict = nested(state_dict)
    groups, adam = checked(state_dict)
    found = Found()
    found.names = names(held, groups, params)
    if hyperparameters == "saved":
        read_groups(held, groups, adam, found)
    _read_state(
        held, state_dict, found, transposed=transposed_names(held, transpose), step_count=step_count
    )
    saved = hyperparameters == "saved" and not found.groups
    loaded = load_state_dict(
        held,
        found.state_dict(held, step_count),
        hyperparameters="current" if saved else hyperparameters,
        strict=strict,
        origin=Origin(foreign=found.mismatched),
    )
    return found.report(loaded)


def _read_state(
    held: Held,
    state_dict: Mapping[str, Any],
    found: Found,
    *,
    transposed: set[str],
    step_count: int | None,
) -> None:
    """Arrays and steps, under the names here."""
    states, groups = state_dict["state"], state_dict["param_groups"]
    keys = [key for group in groups for key in group["params"]]
    repeated = [key for key, times in Counter(keys).items() if times > 1]
    found.mismatched += [f"parameter {key!r} is in param_groups twice" for key in repeated]
    known = set(keys)
    found.mismatched += [
        f"state of parameter {key!r}, which no group has" for key in states if key not in known
    ]
    counted = "betas" in groups[0]
    for key, name in zip(keys, found.names, strict=False):
        entry = {k: v for k, v in states.get(key, {}).items() if v is not None}
        if entry:
            default = None if counted else step_count or 1
            dtype = getattr(held.params[name], "dtype", None)
            leaf = {k: fitted(v, dtype) for k, v in entry.items() if k != "step"}
            if name in transposed:
                leaf = {k: v.T if np.ndim(v) == 2 else v for k, v in leaf.items()}
            found.state[name] = {**leaf, "step": whole(entry.get("step", default))}
            found.mismatched += _hint(name, held.params[name], leaf)
        else:
            never = zeros(held, name)
            if never is not None:
                # Without state torch's SGD does not tell whether it was updated.
                stateless = len(never) == 1
                found.state[name] = {**never, "step": (step_count or 0) if stateless else 0}


def _hint(name: str, param: Any, leaf: dict[str, Any]) -> list[str]:
    """How to read state of a matrix that is transposed here."""
    shapes = {np.shape(array) for array in leaf.values() if isinstance(array, np.ndarray)}
    shape = np.shape(param)
    if shape == shape[::-1] or shapes != {shape[::-1]}:
        return []
    there = shape[::-1]
    return [f"{name!r} is {shape} here and {there} in torch; transpose={name!r} swaps the axes"]

"""Conversion of the state of `torch.optim` to thalweg."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thalweg.convert.arrays import fitted, number, number_dtype, whole
from thalweg.convert.loading import ConvertReport, Found, checked_count, zeros
from thalweg.convert.names import Order, held_of, transposed_names
from thalweg.convert.torch_groups import checked, names, read_groups
from thalweg.convert.torch_names import CONVERTED, is_flat, nested
from thalweg.groups.rule import STATE_NAMES

if TYPE_CHECKING:
    from thalweg.convert.torch_groups import Form
    from thalweg.groups.matching import Match
    from thalweg.optimizer import Optimizer
    from thalweg.state.held import Held

__all__ = ["from_torch"]

INITIAL = "initial_accumulator_value"


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
    """Load a state dict of an optimizer of `torch.optim`.

    These are ``AdamW``, ``Adam``, ``RAdam``, ``RMSprop``, ``Adagrad`` and ``SGD``. Everything is
    checked before the first change.

    Parameters
    ----------
    state_dict : mapping
        A result of ``state_dict()``, with tensors or arrays; or one of FSDP or a distributed
        checkpoint, whose keys are names, flattened or not. Other dtypes, such as bfloat16 or
        float16, are converted where that is exact.
    opt : AdamW, Adam, RAdamW, RMSprop, Adagrad, SGD or SGDW
        Made for the same parameters. RAdamW is torch's RAdam with ``decoupled_weight_decay=True``.
    params : sequence of str, or sequence of sequences of str
        Our names in the order of torch's parameters, in one sequence or one per group. Default is
        the names that are keys of the state dict; else ``param_names``, if torch wrote them and the
        optimizer has all of them; else, for one group, the order of the tree.
    transpose : str, sequence of str or callable
        Matrices that torch's model has transposed; a match as in a group. Without it, shapes must
        be equal.
    hyperparameters : {"saved", "current"}, default "saved"
        Hyperparameters to use from now on. With ``"saved"``, torch's groups replace the present
        ones if any number differs, and a warning lists the changes; frozen parameters stay frozen.
    step_count : int
        Number of steps taken. Default is the largest step count of a parameter. torch's SGD has
        none: there the default is 1 if any parameter has a momentum buffer, else 0.
    strict : bool, default True
        False loads the entries that fit and reports the others.

    Returns
    -------
    ConvertReport
        As of ``load_state_dict``, with ``names`` and ``ignored``.

    Raises
    ------
    ValueError
        If `state_dict` is not of these optimizers or does not fit, with a list of all differences;
        nothing is changed.
    TypeError
        If an argument has the wrong type.

    Notes
    -----
    Accumulators and averages of the optimizer stay unchanged; `skip_count` becomes zero.

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
    held = held_of(opt, CONVERTED)
    step_count = checked_count(step_count)
    if isinstance(state_dict, Mapping) and is_flat(state_dict):
        state_dict = nested(state_dict)
    groups, form = checked(state_dict)
    found = Found()
    found.names = names(held, groups, params)
    if hyperparameters == "saved":
        read_groups(held, groups, form, found)
    _read_state(
        held,
        state_dict,
        found,
        form=form,
        transposed=transposed_names(held, transpose),
        step_count=step_count,
    )
    saved = hyperparameters == "saved" and not found.groups
    return found.load(
        held, step_count, hyperparameters="current" if saved else hyperparameters, strict=strict
    )


def _read_state(
    held: Held,
    state_dict: Mapping[str, Any],
    found: Found,
    *,
    form: Form,
    transposed: set[str],
    step_count: int | None,
) -> None:
    """Read arrays and steps into `found`, under our names."""
    states, groups = state_dict["state"], state_dict["param_groups"]
    keys = [key for group in groups for key in group["params"]]
    repeated = [key for key, times in Counter(keys).items() if times > 1]
    found.mismatched += [f"parameter {key!r} is in param_groups twice" for key in repeated]
    known = set(keys)
    found.mismatched += [
        f"unexpected: state of parameter {key!r}, which is in no group"
        for key in states
        if key not in known
    ]
    initial = {k: group.get(INITIAL) for group in groups for k in group["params"]}
    for key, name in zip(keys, found.names, strict=False):
        entry = {k: v for k, v in states.get(key, {}).items() if v is not None}
        if "sum" in entry and whole(entry.get("step")) == 0:
            found.mismatched += _begun(name, entry.pop("sum"), initial[key])
            entry = {}
        if entry:
            default = None if form.counts else step_count or 1
            dtype = number_dtype(held, name)
            leaf = {k: fitted(v, dtype) for k, v in entry.items() if k != "step"}
            if name in transposed:
                leaf = {k: v.T if np.ndim(v) == 2 else v for k, v in leaf.items()}
            found.state[name] = {**leaf, "step": whole(entry.get("step", default))}
            found.mismatched += _hint(name, held.params[name], leaf)
        else:
            never = zeros(held, name)
            if never is not None:
                # torch's SGD without state does not tell whether the parameter was updated.
                stateless = not any(key in STATE_NAMES for key in never)
                found.state[name] = {**never, "step": (step_count or 0) if stateless else 0}


def _begun(name: str, total: Any, initial: Any) -> list[str]:
    """A message if the sum of torch's Adagrad before the first update is not the group's number.

    Ours begins with the number, and reads no state.
    """
    array = fitted(total, None)
    if isinstance(array, np.ndarray) and np.all(array == array.dtype.type(number(initial))):
        return []
    return [f"sum of {name!r}: at step 0 it must be {INITIAL}, {number(initial)}"]


def _hint(name: str, param: Any, leaf: dict[str, Any]) -> list[str]:
    """Advice for a matrix that is transposed in torch."""
    shapes = {np.shape(array) for array in leaf.values() if isinstance(array, np.ndarray)}
    shape = np.shape(param)
    if shape == shape[::-1] or shapes != {shape[::-1]}:
        return []
    there = shape[::-1]
    return [
        f"{name!r} has shape {shape} here and {there} in torch; transpose={name!r} swaps the axes"
    ]

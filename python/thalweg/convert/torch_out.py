"""Conversion of an optimizer's state to `torch.optim`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.compact.decoding import decoded
from thalweg.convert.names import (
    Order,
    convertible,
    differences,
    flat,
    held_of,
    refuse_own,
    refuse_params,
    transposed_names,
)
from thalweg.convert.numbers import Values
from thalweg.convert.torch_groups import DECOUPLED, form_of
from thalweg.convert.torch_names import CONVERTED, torch_key
from thalweg.state.fitting import arrays_of
from thalweg.state.state_dict import snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thalweg.groups.matching import Match
    from thalweg.optimizer import Optimizer
    from thalweg.state.held import Held

__all__ = ["to_torch"]

FLAGS = ("capturable", "differentiable")
FLOAT32_WHOLE = 2**24
"""Largest integer up to which all integers are exact in float32."""


def to_torch(
    opt: Optimizer,
    *,
    params: Order | None = None,
    transpose: Match | None = None,
    tensors: bool | None = None,
) -> dict[str, Any]:
    """State dict for an optimizer of `torch.optim`.

    Parameters
    ----------
    opt : AdamW, Adam, RAdamW, RMSprop, Adagrad or SGD
        The optimizer; only read. RAdamW is torch's RAdam with ``decoupled_weight_decay=True``.
    params : sequence of str, or sequence of sequences of str
        Names in the order of torch's parameters; for several groups, one sequence per group.
        Default is the parameters that train or have trained, in the order of the tree, with one
        group per set of hyperparameters, in the order of first occurrence. ``param_names`` of the
        result lists them.
    transpose : str, sequence of str or callable
        Matrices that torch's model has transposed; a match as in a group.
    tensors : bool
        True for torch tensors, False for NumPy arrays; both are copies. Default is tensors if the
        program has imported torch.

    Returns
    -------
    dict
        ``state`` and ``param_groups`` for ``load_state_dict``. A callable hyperparameter becomes
        its value at the last step (before the first step: at step 1), and ``lr_scale`` is
        multiplied into ``lr``.

    Raises
    ------
    TypeError
        If `opt` is no optimizer of thalweg, or `params` or `tensors` has the wrong type.
    ValueError
        For SGDW and ``independent=True``, which torch does not have; for names that are unknown,
        left out, or in one group despite different hyperparameters.
    ImportError
        For ``tensors=True`` without torch.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> opt = thalweg.AdamW({"w": np.ones(2), "b": np.zeros(1)})
    >>> report = opt.step({"w": np.ones(2), "b": np.ones(1)})
    >>> saved = thalweg.convert.to_torch(opt, tensors=False)
    >>> saved["param_groups"][0]["param_names"], saved["state"][1]["exp_avg"]
    (['w', 'b'], array([0.1]))
    """
    held = held_of(opt, CONVERTED)
    if tensors is not None and not isinstance(tensors, bool):
        raise TypeError(f"tensors must be True, False or None, got {tensors!r}")
    _refuse(held)
    (step_count, *_), states = snapshot(held.updater)
    states = {
        name: {**decoded(arrays_of(leaf)), "step": leaf["step"]} for name, leaf in states.items()
    }
    values = Values(held, max(1, step_count))
    begins = held.rule.name == "Adagrad"  # in torch it has state before its first update
    for name, leaf in states.items() if begins else ():
        if not leaf["step"]:
            leaf["sum"] = np.full_like(leaf["sum"], values.of(name)["initial_accumulator_value"])
    groups = _grouped(held, values) if params is None else _asked(held, params, values)
    as_torch = _tensor() if tensors or (tensors is None and "torch" in sys.modules) else None
    transposed = transposed_names(held, transpose)
    names = [name for group in groups for name in group]
    position = {name: i for i, name in enumerate(names)}
    return {
        "state": {
            i: _entry(states[name], held.rule.name, name in transposed, as_torch)
            for name, i in position.items()
            if name in states and (states[name]["step"] or begins) and len(states[name]) > 1
        },
        "param_groups": [
            {
                **_group(held, values.of(group[0])),
                "params": [position[name] for name in group],
                "param_names": group,
            }
            for group in groups
        ],
    }


def _refuse(held: Held) -> None:
    refuse_own(held)
    if held.rule.name == "SGDW":
        raise ValueError(
            "torch.optim has no SGDW: the decay of its SGD enters the momentum buffer, as l2 of "
            "thalweg.SGD does"
        )
    if held.options.get("independent"):
        raise ValueError(
            "independent=True has no counterpart in torch, which multiplies weight_decay by lr"
        )


def _grouped(held: Held, values: Values) -> list[list[str]]:
    found: dict[frozenset[tuple[str, Any]], list[str]] = {}
    for name in convertible(held):
        found.setdefault(frozenset(values.of(name).items()), []).append(name)
    return list(found.values())


def _asked(held: Held, params: Order, values: Values) -> list[list[str]]:
    names, sizes = flat(params)
    wrong = differences(held, names)
    given = set(names)
    wrong += [f"missing: {name!r}" for name in held.trained() if name not in given]
    rest = iter(names)
    groups = [[next(rest) for _ in range(size)] for size in sizes or [len(names)]]
    for group in groups if not wrong else ():
        wrong += _mixed(group, values)
    refuse_params(wrong)
    return [group for group in groups if group]


def _mixed(group: Sequence[str], values: Values) -> list[str]:
    """Messages for hyperparameters that differ within a group."""
    found = []
    for name in group[1:]:
        first, own = values.of(group[0]), values.of(name)
        found += [
            f"{group[0]!r} and {name!r} in one group must have the same {key}, got {first[key]} "
            f"and {own[key]}"
            for key in own
            if first[key] != own[key]
        ]
    return found


def _group(held: Held, values: dict[str, Any]) -> dict[str, Any]:
    """A group of torch with all of its keys."""
    known = {torch_key(key): value for key, value in values.items()}
    flags = (key for key in held.rule.choices if key not in ("independent", "cautious"))
    known |= {key: held.options[key] for key in flags}
    form = form_of(held.rule.name)
    known |= {key: False if key in FLAGS else None for key in form.others}
    return known if len(form.rules) == 1 else {**known, DECOUPLED: held.rule.name == form.rules[0]}


def _entry(leaf: dict[str, Any], rule: str, transposed: bool, as_torch: Any) -> dict[str, Any]:
    """State of one parameter, contiguous as in torch."""
    step = leaf["step"]
    dtype = np.float32 if step <= FLOAT32_WHOLE else np.float64
    counted = {"step": np.array(step, dtype)} if form_of(rule).counts else {}
    arrays = {key: value.T if transposed else value for key, value in leaf.items() if key != "step"}
    ordered = {**counted, **{key: np.asarray(a, order="C") for key, a in arrays.items()}}
    return {key: as_torch(a) for key, a in ordered.items()} if as_torch else ordered


def _tensor() -> Any:
    try:
        import torch  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise ImportError(
            "tensors=True needs PyTorch: pip install 'thalweg[torch]'", name="torch"
        ) from error
    return torch.from_numpy

"""Correspondence between the parameters of thalweg and those of another library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from thalweg.compact.decoding import ROW_STEPS
from thalweg.errors import did_you_mean, itemized
from thalweg.groups.matching import Match, Matching
from thalweg.optimizer import Optimizer
from thalweg.state.held import held_by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thalweg.state.held import Held

__all__ = [
    "Order",
    "convertible",
    "differences",
    "flat",
    "held_of",
    "refuse_own",
    "refuse_params",
    "transposed_names",
]

NO_COUNTERPART = "has no counterpart in torch or optax"

Order: TypeAlias = Sequence[str] | Sequence[Sequence[str]]
"""Names in the order of torch's parameters, in one sequence or one per group."""


def held_of(opt: Any, rules: Sequence[str]) -> Held:
    """The `Held` of an optimizer with one of these rules; TypeError for anything else."""
    if not (isinstance(opt, Optimizer) and opt.rule.name in rules):
        *others, last = rules
        raise TypeError(
            f"opt must be one of thalweg.{', '.join(others)} and {last}, got {type(opt).__name__}"
        )
    held = held_by(opt)
    held.check_alone("a conversion")
    return held


def refuse_own(held: Held) -> None:
    """Raise ValueError for settings that neither torch nor optax has."""
    if held.options.get("cautious", False):
        raise ValueError(f"cautious=True {NO_COUNTERPART}")
    for name in convertible(held):
        if held.resolve(name).get("update_rms", 0.0) != 0:
            raise ValueError(f"update_rms, which {name!r} has, {NO_COUNTERPART}")
    for name, leaf in held.state.items():
        if ROW_STEPS in leaf:
            raise ValueError(f"row_steps, which {name!r} has, {NO_COUNTERPART}")


def convertible(held: Held) -> list[str]:
    """The parameters whose state can be converted: those that train, or have trained."""
    trains, state = held.trained(), held.state
    return [
        name for name in held.params if name in trains or (name in state and state[name]["step"])
    ]


def flat(params: Any) -> tuple[list[str], list[int] | None]:
    """The names of an `Order`, and the sizes of its groups, or None for one sequence."""
    given = [] if isinstance(params, str) or not isinstance(params, Sequence) else list(params)
    if given and all(isinstance(name, str) for name in given):
        return given, None
    groups = [list(names) for names in given if isinstance(names, list | tuple)]
    names = [name for group in groups for name in group]
    if not given or len(groups) < len(given) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            "params must be a list of names in torch's order (['w', 'b']), or a list of names "
            f"for each of torch's groups ([['w'], ['b']]), got {params!r}"
        )
    return names, [len(group) for group in groups]


def differences(held: Held, names: Sequence[str]) -> list[str]:
    """Messages for names that are repeated or unknown."""
    found = [f"{name!r} occurs {n} times" for name, n in Counter(names).items() if n > 1]
    unknown = [name for name in dict.fromkeys(names) if name not in held.params]
    known = list(held.params)
    return [
        *found,
        *(f"{name!r} is not a parameter{did_you_mean(name, known)}" for name in unknown),
    ]


def refuse_params(wrong: Sequence[str]) -> None:
    """Raise ValueError with the list of what is wrong with an `Order`, if it is not empty."""
    if wrong:
        raise ValueError(itemized("params do not fit", wrong))


def transposed_names(held: Held, transpose: Match | None) -> set[str]:
    """Names of the matrices that are transposed in the other library."""
    if transpose is None:
        return set()
    params: Mapping[str, Any] = held.params
    names = Matching(params).select(transpose, "transpose")
    for name in names:
        if np.ndim(params[name]) != 2:
            raise ValueError(
                f"transpose must match matrices only, got {name!r} of shape "
                f"{np.shape(params[name])}"
            )
    return set(names)

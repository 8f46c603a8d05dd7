"""Comparison of saved entries, of one parameter or hyperparameter, with the present ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg import _core
from thalweg.errors import itemized
from thalweg.schedule.parsing import from_json
from thalweg.state.form import Unreadable, is_step, readable
from thalweg.state.spread import Spread

if TYPE_CHECKING:
    from thalweg.mapped.arrays import Kind

__all__ = [
    "arrays_of",
    "could_train",
    "differences",
    "differing",
    "differs",
    "kind_of",
    "read",
    "refusal",
    "restored",
]


def could_train(param: Any) -> bool:
    """Whether a frozen parameter is an array that could be written if thawed."""
    return (
        isinstance(param, np.ndarray)
        and not isinstance(param, np.ma.MaskedArray)
        and param.flags.writeable
        and param.flags.aligned
    )


def read(leaf: Mapping[str, Any]) -> dict[str, Any]:
    """Saved step and arrays of a parameter; each item is read once: it may be a view of a file."""
    return {key: value if key == "step" else readable(value) for key, value in leaf.items()}


def kind_of(array: Any) -> Kind:
    """The dtype and shape of an array."""
    return array.dtype, array.shape


def arrays_of(leaf: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays in the state of a parameter, without its step."""
    return {key: array for key, array in leaf.items() if key != "step"}


def differences(name: str, saved: Mapping[str, Any], expected: Mapping[str, Kind]) -> list[str]:
    """Differences between the saved step and arrays of a parameter and those `expected`."""
    if not is_step(saved.get("step")):
        return [
            (
                f"state of {name!r}: step must be a whole number from 0 to 2**63 - 1, got "
                f"{saved.get('step')!r}"
            )
        ]
    keys = {key for key in saved if key != "step"}
    if keys != set(expected):
        return [f"state of {name!r}: saved {sorted(keys, key=str)}, here {sorted(expected)}"]
    found = [differs(f"{key} of {name!r}", expected[key], saved[key]) for key in sorted(keys)]
    return [difference for difference in found if difference]


def differs(what: str, expected: Kind, array: Any) -> str | None:
    """The reason why a saved array does not fit, or None."""
    if isinstance(array, np.ma.MaskedArray):
        return f"{what}: saved a masked array; fill it first (array.filled(0))"
    if isinstance(array, Unreadable):
        return f"{what}: saved {array.kind}, must be convertible to an ndarray; {array.reason}"
    if not isinstance(array, np.ndarray | _core.Stored | Spread):
        return f"{what}: saved {type(array).__name__}, must be an array"
    dtype, shape = expected
    if array.shape != shape or array.dtype != dtype:
        return f"{what}: saved {array.dtype} {array.shape}, here {dtype} {shape}"
    return None


def differing(what: str, saved: Any, here: Any) -> str:
    """A line for a saved value that differs from the one here."""
    return f"{what}: saved {saved!r}, here {here!r}"


def refusal(what: str, differences: Sequence[str]) -> str:
    """The message that nothing of `what` was loaded, with the differences."""
    return itemized(f"{what} does not fit; nothing was loaded", differences)


def restored(recorded: Any, mine: Any) -> Any:
    """The recorded value; `mine`, if the record is the name of a callable.

    Raises
    ------
    ValueError
        If the record is the name of a callable and `mine` is not callable.
    """
    if isinstance(recorded, Mapping) and "schedule" in recorded:
        return from_json(recorded["schedule"])
    if not (isinstance(recorded, Mapping) and "callable" in recorded):
        return recorded
    if callable(mine):
        return mine
    raise ValueError(
        f"saved the callable {recorded['callable']}, here {mine!r}; make the optimizer with that "
        "callable, or load with hyperparameters='current'"
    )

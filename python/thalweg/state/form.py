"""Checks of the form of a state dict. `Plan` compares its contents with the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.errors import type_name
from thalweg.state.whole import hint

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = 1
"""The format of a state dict without narrow state and without `NEWER`."""
NARROW = 2
"""The format of one that has either, which earlier versions cannot read."""
NEWER = frozenset({"state", "rows", "row_steps"})
"""Keys of groups that format 1 lacks."""
LOW_OF = "low_of"
"""The key of a state dict that has the types of parameters with `low`, whose unit depends on it."""
STEP_LIMIT = 2**63


def whole(value: Any) -> int:
    """A count as an int, from an int, a NumPy scalar or an array without axes; otherwise -1.

    File formats turn ints into the other two.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    array = readable(value)
    return int(array) if isinstance(array, np.ndarray) and _is_whole(array) else -1


def _is_whole(array: NDArray[Any]) -> bool:
    return (
        array.shape == () and array.dtype.kind in "iu" and not isinstance(array, np.ma.MaskedArray)
    )


@dataclass(frozen=True)
class Unreadable:
    """Placeholder for another library's array that NumPy cannot read."""

    kind: str
    reason: str


def readable(value: Any) -> Any:
    """`value`, or, for another library's array, its ndarray; gradients are read in the same way."""
    if isinstance(value, np.ndarray) or not hasattr(type(value), "__array__"):
        return value
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and type(error) is not RuntimeError:
            raise  # a subclass, such as RecursionError, has another cause
        reason = str(error).partition("\n")[0]
        return Unreadable(type_name(value), reason)


def is_step(value: Any) -> bool:
    """Whether `value` is a valid number of updates."""
    return 0 <= whole(value) < STEP_LIMIT


def _is_group(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    names, betas = value.get("match"), value.get("betas", (None, None))
    return (
        all(isinstance(key, str) for key in value)
        and isinstance(names, list | tuple)
        and all(isinstance(name, str) for name in names)
        and (isinstance(betas, list | tuple) or (isinstance(betas, np.ndarray) and betas.ndim == 1))
        and len(betas) == 2
    )


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(leaf, Mapping) for leaf in value.values())


def _are_skips(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        is_step(value.get(key)) for key in ("total", "consecutive")
    )


def is_mirror(value: Any) -> bool:
    """Whether `value` has the form of the state of an accumulator or average."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("kind"), str)
        and is_step(value.get("step_count"))
        and _is_state(value.get("state"))
    )


def check_form(saved: Mapping[str, Any]) -> None:
    """Raise ValueError if `saved` does not have the form of a state dict of thalweg."""
    checks: dict[str, Callable[[Any], object]] = {
        "format": is_step,
        "rule": lambda value: isinstance(value, str),
        "options": lambda value: isinstance(value, Mapping),
        "step_count": is_step,
        "groups": lambda value: (
            isinstance(value, list | tuple) and value and all(map(_is_group, value))
        ),
        "state": _is_state,
        "skips": _are_skips,
        "attached": lambda value: (
            isinstance(value, Mapping) and all(map(is_mirror, value.values()))
        ),
    }
    if not isinstance(saved, Mapping):
        raise ValueError(  # noqa: TRY004 - ValueError, as for all differences
            f"not a state dict of thalweg: it must be a mapping, got {type(saved).__name__}"
        )
    if LOW_OF in saved:
        checks[LOW_OF] = lambda value: isinstance(value, Mapping)
    wrong = [key for key, fits in checks.items() if key not in saved or not fits(saved[key])]
    if wrong:
        listed = ", ".join(wrong)
        way = hint(
            saved, lambda value: isinstance(value, Mapping) and checks.keys() <= value.keys()
        )
        raise ValueError(f"not a state dict of thalweg; missing or malformed: {listed}{way}")
    if (version := whole(saved["format"])) not in (FORMAT, NARROW):
        raise ValueError(
            f"the state dict must have format {FORMAT} or {NARROW}, which this version of thalweg "
            f"reads, got {version}"
        )

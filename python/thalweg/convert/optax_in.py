"""Conversion of optax's state to thalweg."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.convert.arrays import fitted, number_dtype, whole
from thalweg.convert.loading import ConvertReport, Found, checked_count, is_count
from thalweg.convert.names import held_of
from thalweg.convert.optax_parts import CONVERTED, Kind, fields, kind, kind_of, refuse
from thalweg.tree import flatten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thalweg.optimizer import Optimizer
    from thalweg.state.held import Held

__all__ = ["from_optax"]


def from_optax(
    state: Any, opt: Optimizer, *, step_count: int | None = None, strict: bool = True
) -> ConvertReport:
    """Load the state of a transformation of optax.

    These are ``optax.adamw``, ``adam``, ``nadamw``, ``radam``, ``adabelief``, ``lion``, ``rmsprop``
    and ``sgd``. Everything is checked before the first change.

    Parameters
    ----------
    state : tree
        The state from ``tx.init`` or ``tx.update``, alone or among other states, as in a chain; or
        the same state as nested tuples, lists and dicts with optax's field names. Arrays are those
        of JAX or NumPy. Other dtypes, such as bfloat16, are converted where that is exact.
    opt : AdamW, Adam, NAdamW, RAdamW, AdaBelief, Lion, RMSprop, SGDW or SGD
        Made for parameters in a tree of the same structure. Its hyperparameters stay, because
        optax's state has none.
    step_count : int
        Number of steps taken. Default is the largest count in the state; without one, 1 if any
        momentum buffer is not zero, else 0.
    strict : bool, default True
        False loads the entries that fit and reports the others.

    Returns
    -------
    ConvertReport
        As of ``load_state_dict``, with ``names`` and ``ignored``.

    Raises
    ------
    ValueError
        If `state` contains no such state or does not fit, with a list of all differences; for
        AMSGrad, ``maximize=True``, dampening and RMSprop with momentum. Nothing is changed.
    TypeError
        If `opt` is no such optimizer, or `state` no container.

    Notes
    -----
    Accumulators and averages of the optimizer stay unchanged; `skip_count` becomes zero.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> moments = {"count": 7, "mu": {"w": np.ones(2)}, "nu": {"w": np.ones(2)}}
    >>> opt = thalweg.AdamW({"w": np.zeros(2)})
    >>> thalweg.convert.from_optax((moments, (), ()), opt).step
    7
    """
    held = held_of(opt, CONVERTED)
    refuse(held)
    if fields(state) is None:
        raise TypeError(
            "state must be a state of optax, from init or update of a transformation, got "
            f"{type(state).__name__}"
        )
    step_count = checked_count(step_count)
    found, counts = Found(), []
    for path, own, content in _parts(state, "", found.ignored, kind_of(held)):
        count = whole(content["count"]) if own.counts else None
        counts.append(count)
        _add(held, found, path, {key: content[field] for field, key in own.arrays.items()}, count)
    _check_found(held, found)
    step_count = _counted(found, counts) if step_count is None else step_count
    for name in found.names:
        leaf = found.state[name]
        leaf["step"] = step_count if leaf["step"] is None else leaf["step"]
    return found.load(held, step_count, hyperparameters="current", strict=strict)


def _parts(
    node: Any, path: str, ignored: dict[str, Any], wanted: Kind
) -> list[tuple[str, Kind, Mapping[str, Any]]]:
    """The states of known kinds: path, kind and fields of each."""
    content = fields(node)
    if content is None:
        if node is not None:
            ignored[path.removeprefix(".")] = node
        return []
    if "mini_step" in content and whole(content["mini_step"]) != 0:
        raise ValueError(
            "the state is in the middle of an accumulation of gradients (mini_step is "
            f"{content['mini_step']}); convert it after a complete update"
        )
    own = kind(node, content, wanted)
    here = [] if own is None else [(path.removeprefix("."), own, content)]
    inner = {key: value for key, value in content.items() if own is None or key not in own.fields}
    below = [_parts(value, f"{path}.{key}", ignored, wanted) for key, value in inner.items()]
    return [*here, *(part for parts in below for part in parts)]


def _add(held: Held, found: Found, path: str, trees: Mapping[str, Any], step: int | None) -> None:
    """Add the state of the parameters in a part to `found`."""
    flat = {key: flatten(tree) for key, tree in trees.items()}
    names = list(dict.fromkeys(name for leaves in flat.values() for name in leaves))
    for name in names:
        if name in found.state:
            found.mismatched.append(f"{name!r} is in two states, the second at {path or 'the top'}")
            continue
        dtype = number_dtype(held, name)
        arrays = {
            key: fitted(leaves[name], dtype) for key, leaves in flat.items() if name in leaves
        }
        found.state[name] = {**arrays, "step": step}
        found.names.append(name)


def _check_found(held: Held, found: Found) -> None:
    """Raise ValueError if no state of the optimizer's rule was found and the rule keeps state."""
    trained = held.trained()
    keeps = any(held.updater.state(name) for name in trained)
    if found.state or not keeps:
        if not found.state:  # SGD without momentum: a step count is its only state
            found.names = list(trained)
            found.state = {name: {"step": None} for name in trained}
        return
    needed = kind_of(held).name
    raise ValueError(f"state must contain optax's {needed} for {held.rule.name}, got none")


def _counted(found: Found, counts: list[Any]) -> int:
    """The number of steps according to the state; see `from_optax`."""
    known: list[int] = [count for count in counts if is_count(count)]
    if known:
        return max(known)
    arrays = [a for leaf in found.state.values() for k, a in leaf.items() if k != "step"]
    return int(any(np.any(array) for array in arrays if isinstance(array, np.ndarray)))

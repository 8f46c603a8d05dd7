"""States of optax: their classes and fields, and the kinds that thalweg's rules can use.

A chain of optax has a tuple of states, and wrappers have states that contain others. All are
namedtuples; a checkpoint may return them as dicts of their fields.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from thalweg.convert.names import refuse_own

if TYPE_CHECKING:
    from thalweg.state.held import Held

__all__ = ["ADAM", "COUNT", "TRACE", "classes", "kind", "rebuilt", "refuse"]

ADAM = {"count", "mu", "nu"}
TRACE = {"trace"}
COUNT = {"count"}


class ScaleByAdamState(NamedTuple):
    """optax's fields: number of updates, first and second moments."""

    count: Any
    mu: Any
    nu: Any


class TraceState(NamedTuple):
    """optax's field: momentum buffers."""

    trace: Any


class ScaleByScheduleState(NamedTuple):
    """optax's field: number of updates."""

    count: Any


class EmptyState(NamedTuple):
    """A state without fields."""


def classes() -> Any:
    """The module with the state classes: optax if the program has imported it, else this one."""
    return sys.modules.get("optax") or sys.modules[__name__]


def fields(node: Any) -> Mapping[str, Any] | None:
    """The items of a container by name, or None if `node` is not a container."""
    if isinstance(node, tuple) and hasattr(node, "_asdict"):
        content: dict[str, Any] = node._asdict()
        return content
    if isinstance(node, Mapping):
        return {str(key): value for key, value in node.items()}
    if isinstance(node, list | tuple):
        return {str(i): value for i, value in enumerate(node)}
    return None


def kind(node: Any, content: Mapping[str, Any]) -> set[str] | None:
    """`ADAM`, `TRACE` or `COUNT`, or None for anything else.

    Raises
    ------
    ValueError
        For optax's AMSGrad, and for another rule whose state has the same fields.
    """
    keys, name = set(content), type(node).__name__
    if keys == {*ADAM, "nu_max"}:
        raise ValueError(
            "AMSGrad of optax cannot be converted: it keeps the maximum of the bias-corrected "
            "second moment, thalweg and torch keep the maximum of the uncorrected one"
        )
    for own, of in ((ADAM, "ScaleByAdamState"), (TRACE, "TraceState")):
        if keys == own:
            if name != of and isinstance(node, tuple):
                raise ValueError(
                    f"{name} of optax is the state of a rule that thalweg does not have"
                )
            return own
    return COUNT if keys == COUNT or keys >= {"count", "hyperparams"} else None


def rebuilt(node: Any, change: Callable[[str], Any]) -> Any:
    """A container like `node`, with ``change(key)`` as each item."""
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return type(node)(**{key: change(key) for key in node._fields})
    if isinstance(node, Mapping):
        return {key: change(str(key)) for key in node}
    return type(node)(change(str(i)) for i in range(len(node)))


def refuse(held: Held) -> None:
    """Raise ValueError for settings that optax treats differently or does not have."""
    refuse_own(held)
    if held.options["amsgrad"]:
        raise ValueError(
            "amsgrad=True has no counterpart in optax, whose AMSGrad keeps the maximum of the "
            "bias-corrected second moment; thalweg keeps the maximum of the uncorrected one"
        )
    if held.options["maximize"]:
        raise ValueError(
            "maximize=True has no counterpart in optax: the sign of its moments depends on where "
            "the gradients are negated"
        )
    damped = [name for name in held.trained() if held.resolve(name).get("dampening", 0.0) != 0.0]
    if damped:
        raise ValueError(f"dampening, which {damped[0]!r} has, has no counterpart in optax")

"""States of optax: their classes and fields, and the kinds that thalweg's rules can use.

A chain of optax has a tuple of states, and wrappers have states that contain others. All are
namedtuples; a checkpoint may return them as dicts of their fields.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from thalweg.convert.names import refuse_own

if TYPE_CHECKING:
    from thalweg.state.held import Held

__all__ = ["CONVERTED", "COUNT", "Kind", "classes", "kind", "kind_of", "rebuilt", "refuse"]

CONVERTED = (
    "AdamW",
    "Adam",
    "NAdamW",
    "RAdamW",
    "AdaBelief",
    "Lion",
    "RMSprop",
    "SGDW",
    "SGD",
)
"""Rules whose state optax has."""


@dataclass(frozen=True)
class Kind:
    """A state of optax that thalweg's rules can use."""

    name: str
    """The class."""

    arrays: Mapping[str, str]
    """Keys of thalweg's state by field."""

    counts: bool = True
    """Whether it has the number of updates."""

    @property
    def fields(self) -> set[str]:
        """All fields."""
        return {*self.arrays, "count"} if self.counts else {*self.arrays}


ADAM = Kind("ScaleByAdamState", {"mu": "exp_avg", "nu": "exp_avg_sq"})
BELIEF = Kind("ScaleByBeliefState", {"mu": "exp_avg", "nu": "exp_avg_var"})
LION = Kind("ScaleByLionState", {"mu": "exp_avg"})
RMS = Kind("ScaleByRmsState", {"nu": "square_avg"}, counts=False)
CENTERED = Kind("ScaleByRStdDevState", {"mu": "grad_avg", "nu": "square_avg"}, counts=False)
TRACE = Kind("TraceState", {"trace": "momentum_buffer"}, counts=False)
COUNT = Kind("ScaleByScheduleState", {})
KINDS = (ADAM, BELIEF, LION, RMS, CENTERED, TRACE)
OF_RULES = {"AdaBelief": BELIEF, "Lion": LION, "RMSprop": RMS, "SGD": TRACE, "SGDW": TRACE}
"""Others have that of Adam."""


class ScaleByAdamState(NamedTuple):
    """optax's fields: number of updates, first and second moments."""

    count: Any
    mu: Any
    nu: Any


class ScaleByBeliefState(NamedTuple):
    """optax's fields: number of updates, averages of gradients and of squared deviations."""

    count: Any
    mu: Any
    nu: Any


class ScaleByLionState(NamedTuple):
    """optax's fields: number of updates, averages."""

    count: Any
    mu: Any


class ScaleByRmsState(NamedTuple):
    """optax's field: averages of squares."""

    nu: Any


class ScaleByRStdDevState(NamedTuple):
    """optax's fields: averages of gradients and of squares."""

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


def kind_of(held: Held) -> Kind:
    """The kind that the rule of an optimizer has in optax."""
    return CENTERED if held.options.get("centered") else OF_RULES.get(held.rule.name, ADAM)


def kind(node: Any, content: Mapping[str, Any], wanted: Kind) -> Kind | None:
    """The kind of a state, or None for anything else; `wanted` if fields without a class fit it.

    Raises
    ------
    ValueError
        For optax's AMSGrad, and for another rule whose state has the same fields.
    """
    keys, name = set(content), type(node).__name__
    if keys == {*ADAM.fields, "nu_max"}:
        raise ValueError(
            "AMSGrad of optax cannot be converted: it keeps the maximum of the bias-corrected "
            "second moment, thalweg and torch keep the maximum of the uncorrected one"
        )
    fitting = [kind for kind in KINDS if kind.fields == keys]
    if fitting and isinstance(node, tuple):
        fitting = [kind for kind in fitting if kind.name == name]
        if not fitting:
            raise ValueError(f"{name} of optax is the state of a rule that thalweg does not have")
    if fitting:
        return wanted if wanted in fitting else fitting[0]
    return COUNT if keys == COUNT.fields or keys >= {"count", "hyperparams"} else None


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
    if held.options.get("amsgrad"):
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
    if held.rule.name == "RMSprop":
        moving = [name for name in held.trained() if held.resolve(name)["momentum"] != 0.0]
        if moving:
            raise ValueError(
                f"momentum, which {moving[0]!r} has, has no counterpart in RMSprop of optax, whose "
                "buffer is a sum of steps that have the learning rate in them"
            )

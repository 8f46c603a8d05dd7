"""Conversion of an optimizer's state to optax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.compact.decoding import decoded
from thalweg.convert.names import held_of
from thalweg.convert.optax_parts import (
    CONVERTED,
    COUNT,
    classes,
    fields,
    kind,
    kind_of,
    rebuilt,
    refuse,
)
from thalweg.state.fitting import arrays_of
from thalweg.state.state_dict import snapshot
from thalweg.tree import flatten, unflatten

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from thalweg.optimizer import Optimizer
    from thalweg.state.held import Held

__all__ = ["to_optax"]

COUNT_LIMIT = 2**31 - 1
"""Largest count of optax, an int32."""


def to_optax(opt: Optimizer, *, like: Any = None) -> Any:
    """State for a transformation of optax from an optimizer's state.

    Parameters
    ----------
    opt : AdamW, Adam, NAdamW, RAdamW, AdaBelief, Lion, RMSprop, SGDW or SGD
        The optimizer; only read.
    like : tree
        A state of the transformation that continues the run, such as ``tx.init(params)``. The
        result has its structure, with moments, momentum buffers and counts of `opt`. Default is the
        structure of ``optax.adamw``, ``adam``, ``nadamw``, ``lion``, ``rmsprop`` or ``sgd``, and
        for the others that of ``optax.chain(scale_by_radam(), add_decayed_weights(...),
        scale_by_learning_rate(...))``, or ``scale_by_belief()`` there; with a schedule's count if
        `lr` is a callable.

    Returns
    -------
    tuple
        The state for ``tx.update(grads, state, params)``, with NumPy arrays that are copies.
        Without `like` the classes are those of optax if the program has imported it, else
        namedtuples with the same names and fields. It contains no hyperparameters.

    Raises
    ------
    ValueError
        For AMSGrad, ``maximize=True``, dampening and RMSprop with momentum, which optax computes
        differently or does not have; if parameters have different step counts, because optax has
        one count; or if `like` has other parameters.
    TypeError
        If `opt` is no such optimizer.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> opt = thalweg.AdamW({"w": np.ones(2)})
    >>> report = opt.step({"w": np.ones(2)})
    >>> adam, *_ = thalweg.convert.to_optax(opt)
    >>> int(adam.count), adam.mu
    (1, {'w': array([0.1, 0.1])})
    """
    held = held_of(opt, CONVERTED)
    refuse(held)
    (step_count, *_), states = snapshot(held.updater)
    states = {
        name: {**decoded(arrays_of(leaf)), "step": leaf["step"]} for name, leaf in states.items()
    }
    state = _State(held, states, _count(step_count))
    if like is None:
        return state.plain()
    made = state.filled(like)
    missing = [name for name in held.trained() if len(states[name]) > 1 and name not in state.taken]
    if missing:
        raise ValueError(f"like does not fit; missing: {', '.join(map(repr, missing))}")
    return made


def _count(step: int) -> Any:
    if step > COUNT_LIMIT:
        raise ValueError(f"the step of optax must be at most {COUNT_LIMIT}, got {step}")
    return np.array(step, np.int32)


class _State:
    """State by parameter, to be arranged as states of optax."""

    def __init__(self, held: Held, states: Mapping[str, Any], step_count: Any) -> None:
        self.held, self.states, self.step_count = held, states, step_count
        self.taken: set[str] = set()

    def plain(self) -> Any:
        """The structure of the transformation that has the name of the rule; see `to_optax`."""
        optax, held, own = classes(), self.held, kind_of(self.held)
        empty = optax.EmptyState()
        last = optax.ScaleByScheduleState(self.step_count) if callable(held.groups[0].lr) else empty
        decay = [empty] if held.rule.decay == "weight_decay" else []
        first = next(iter(own.arrays.values()))
        names = {name: name for name, leaf in self.states.items() if first in leaf}
        others = [name for name in held.trained() if name not in names]
        if not names:
            return (empty, *decay, last)
        if others:
            raise ValueError(
                f"{others[0]!r} has no momentum, but {next(iter(names))!r} has; pass a state of "
                "optax as like"
            )
        like = unflatten({name: names.get(name) for name in held.params}, held.tree)
        arrays = {field: self._tree(names, like, key) for field, key in own.arrays.items()}
        count = {"count": self._step(names)} if own.counts else {}
        momentum = [empty] if held.rule.name == "RMSprop" else []
        return (getattr(optax, own.name)(**count, **arrays), *decay, last, *momentum)

    def filled(self, node: Any) -> Any:
        """A copy of the state `node`, with moments, momentum buffers and counts replaced."""
        content = fields(node)
        if content is None:
            return node
        own = kind(node, content, kind_of(self.held))
        made: dict[str, Any] = {}
        if own == COUNT:
            made = {"count": self.step_count}
        elif own is not None:
            names: list[str] = []
            for field, key in own.arrays.items():
                names = self._names(content[field], key)
                made[field] = self._tree(names, content[field], key)
            if own.counts:
                made["count"] = self._step(names)
        return rebuilt(node, lambda key: made[key] if key in made else self.filled(content[key]))

    def _names(self, like: Any, key: str) -> list[str]:
        """Names of the parameters in a part of `like`, which must have state of the same shape."""
        found = flatten(like)
        for name, leaf in found.items():
            if key not in self.states.get(name, {}):
                raise ValueError(
                    f"like does not fit; unexpected: {name!r}, which has no {key} here"
                )
            mine, theirs = self.held.params[name].shape, np.shape(leaf)
            if mine != theirs:
                raise ValueError(f"{name!r} in like must have shape {mine}, got {theirs}")
        self.taken.update(found)
        return list(found)

    def _step(self, names: Collection[str]) -> Any:
        """The step count that the parameters share."""
        steps = {self.states[name]["step"]: name for name in reversed([*names])}
        if len(steps) > 1:
            counts = ", ".join(f"{name!r} {step}" for step, name in sorted(steps.items()))
            raise ValueError(
                "the numbers of steps must be equal, because optax has one for all parameters, "
                f"got {counts}"
            )
        return _count(*steps) if steps else self.step_count

    def _tree(self, names: Iterable[str], like: Any, key: str) -> Any:
        return unflatten({name: self.states[name][key] for name in names}, like=like)

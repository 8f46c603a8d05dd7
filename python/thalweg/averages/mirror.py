"""Arrays that mirror parameters: what sums of gradients and averages of parameters share.

A mirror holds one array of the shape and dtype of each parameter, in a native object that updates
them all in one call. It is made for a tree, or for an optimizer; then it follows what trains, and
is saved, loaded, copied and pickled with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from thalweg import _core
from thalweg.attributes import Fixed, from_the_start
from thalweg.optimizer import Optimizer
from thalweg.state.form import is_mirror, whole
from thalweg.state.loading import differences, read
from thalweg.state.state_dict import snapshot
from thalweg.tree import flatten, unflatten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Mirror"]


@dataclass
class Planned:
    """What loading would do to a mirror, or what stands against it."""

    mirror: Mirror
    differences: list[str]
    fits: bool = True
    """False if nothing of it can be taken over; else what differs is left out."""
    count: int = 0
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    weight: float = 0.0
    values: dict[str, Any] = field(default_factory=dict)
    changed: tuple[Any, Any] | None = None
    before: frozenset[str] | None = None
    """Names of its arrays, once it was prepared."""

    def prepared(self) -> tuple[_core.Updater, tuple[int, int, int, float], dict[str, Any]]:
        """The native object and what it is to take over, once it has the arrays for it."""
        self.before = frozenset(self.mirror._arrays)
        self.mirror._follow(dict.fromkeys(self.states))
        states = {name: {**leaf, "step": whole(leaf["step"])} for name, leaf in self.states.items()}
        return self.mirror._native, (self.count, 0, 0, self.weight), states

    def undo(self) -> None:
        """Forget arrays that were made for what could not be loaded."""
        arrays = self.mirror._arrays
        if self.before is not None and self.before < arrays.keys():
            self.mirror._arrays = {name: a for name, a in arrays.items() if name in self.before}
            self.mirror._revision = -1

    def finish(self) -> None:
        """Set what is no array."""
        for key, value in self.values.items():
            setattr(self.mirror, key, value)


class Mirror(Fixed, ABC):
    """One array for each parameter of a tree, or for each that an optimizer trains."""

    kind: ClassVar[str]
    """What it is, in saved state."""
    array_key: ClassVar[str]
    """What its arrays are called there."""

    _native: _core.Updater
    _arrays: dict[str, NDArray[Any]]

    def __init__(self, params: Any, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, got {name!r}")
        self._owner = params if isinstance(params, Optimizer) else None
        if self._owner is not None:
            self._owner._updater.check_ready()
            if self._owner.state_dir is not None:
                raise ValueError(
                    f"an {type(self).__name__} of an optimizer with state_dir would be in memory, "
                    "and lost where the rest continues; make it of the parameters "
                    f"(thalweg.{type(self).__name__}(params, ...)) and save it by itself"
                )
        self._given = None if self._owner else params
        self._arrays = {}
        self._set_up(self._tree, self._members())
        if self._owner is not None:
            self._revision = self._owner._revision
            self._owner._attached[name] = self

    @classmethod
    def _ways(cls) -> Mapping[str, str]:
        return from_the_start(cls.__name__, "name")

    @property
    def _tree(self) -> Any:
        return self._given if self._owner is None else self._owner._tree

    def _members(self) -> dict[str, NDArray[Any]]:
        """The parameters that are mirrored: all of a tree, or those that train."""
        if self._owner is None:
            return flatten(self._given)
        return self._owner._trained()

    def _start(self, param: NDArray[Any]) -> NDArray[Any]:
        """The array that mirrors a new parameter."""
        return np.zeros_like(param, subok=False)

    def _started(self, name: str, param: Any) -> NDArray[Any]:
        """The same, if it is an array; NumPy makes one of anything, and drops masks."""
        if not isinstance(param, np.ndarray) or isinstance(param, np.ma.MaskedArray):
            raise TypeError(
                f"parameter {name!r} is of type {type(param).__name__}; sums and averages are of "
                "float32 or float64 ndarrays, in dicts, lists or tuples (np.asarray(x, np.float32))"
            )
        return self._start(param)

    @abstractmethod
    def _bind(self, tree: Any) -> None:
        """Hand the arrays over to the native object."""

    def _values(self) -> dict[str, Any]:
        """Hyperparameters, as the native object takes them."""
        return {}

    def _set_up(self, tree: Any, members: Mapping[str, NDArray[Any]]) -> None:
        if not members and self._owner is None:
            raise ValueError("the tree holds no arrays")
        self._arrays = {name: self._started(name, param) for name, param in members.items()}
        self._native = _core.Updater()
        leaves = flatten(tree)
        self._bind(unflatten({**leaves, **self._arrays}, like=tree))
        self._native.configure(self._classes(), self._assignment(leaves, members))

    def _classes(self) -> list[dict[str, Any]]:
        return [self._values(), {**self._values(), "frozen": True}]

    def _assignment(self, leaves: Mapping[str, Any], members: Mapping[str, Any]) -> list[int]:
        """Leaves that are no members are frozen: whatever they are, they are left alone."""
        return [int(name not in members) for name in leaves]

    def _follow(self, more: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Take in parameters that the optimizer trains by now, and `more` that it will."""
        if self._owner is None:
            return
        if self._owner._revision == self._revision and self._arrays.keys() >= more.keys():
            return
        members = {**self._members(), **more}
        if self._keeps:
            members.update(dict.fromkeys(self._arrays))
        leaves = self._owner._params
        names = [name for name in members if name not in self._arrays]
        new = {name: self._started(name, leaves[name]) for name in names}
        tree = unflatten({**leaves, **self._arrays, **new}, like=self._tree)
        self._native.extend(tree, self._classes(), self._assignment(leaves, members))
        self._arrays.update(new)
        self._revision = self._owner._revision

    _keeps: ClassVar[bool] = False
    """Whether a parameter that no longer trains is still mirrored."""

    def state_dict(self, *, copy: bool = True) -> dict[str, Any]:
        """What it remembers, as plain dicts, numbers and arrays.

        Parameters
        ----------
        copy : bool, default True
            False gives the live arrays instead of copies.
        """
        native = self._native
        return self._saved(*(snapshot(native) if copy else native.snapshot(list(self._arrays))))

    def _saved(self, counts: _core._Counts, state: dict[str, Any]) -> dict[str, Any]:
        """What is saved, from a snapshot."""
        ours = {name: state[name] for name in self._arrays}
        return {"kind": self.kind, "step_count": counts[0], **self._recorded(), "state": ours}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave. Everything is checked before anything is changed.

        Raises
        ------
        ValueError
            If it does not fit, listing every difference.
        """
        planned = self._plan(state_dict, self._members(), others=True)
        if planned.differences:
            listed = "\n- ".join(planned.differences)
            raise ValueError(f"the state dict does not fit; nothing was loaded:\n- {listed}")
        try:
            _, counts, states = planned.prepared()
            self._native.restore(counts, states)
        except BaseException:
            planned.undo()
            raise
        planned.finish()

    def _plan(self, saved: Any, members: Mapping[str, Any], *, others: bool) -> Planned:
        """What loading would do, with these parameters training.

        With `others` the saved hyperparameters count.
        """
        if not is_mirror(saved) or saved["kind"] != self.kind:
            return Planned(self, [f"not the state of an {type(self).__name__}"], fits=False)
        params = members if self._owner is None else self._owner._params
        found = [f"{name!r} was not saved" for name in members if name not in saved["state"]]
        planned = Planned(self, found, count=whole(saved["step_count"]))
        self._plan_values(saved, planned, others=others)
        for name, kept in saved["state"].items():
            leaf = read(kept)
            if not isinstance(params.get(name), np.ndarray):
                found.append(f"saved {name!r}, which is no array among the parameters")
            elif differ := differences(name, params[name], leaf, {self.array_key}):
                found += differ
            else:
                planned.states[name] = leaf
        return planned

    @abstractmethod
    def _plan_values(self, saved: Mapping[str, Any], planned: Planned, *, others: bool) -> None:
        """Compare what is saved beside counters and arrays; see `_plan`."""

    @abstractmethod
    def _recorded(self) -> dict[str, Any]:
        """What is saved beside counters and arrays."""

    def __getstate__(self) -> dict[str, Any]:
        counts, state = self._native.snapshot(list(self._arrays))
        kept = {key: value for key, value in self.__dict__.items() if key != "_native"}
        return {"attributes": kept, "counts": counts, "state": state}

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        # Its optimizer may not be there yet, so the arrays are bound by their names alone until
        # `_follow` sees another revision.
        self.__dict__.update(pickled["attributes"])
        self._revision = -1
        self._native = _core.Updater()
        if self._owner is None:
            self._bind(unflatten(self._arrays, like=self._given))
        else:
            self._bind(self._arrays or None)
        self._native.configure(self._classes(), [0] * len(self._arrays))
        self._native.restore(pickled["counts"], pickled["state"])

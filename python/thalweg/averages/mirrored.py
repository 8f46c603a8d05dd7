"""Mirrored arrays: the base of sums of gradients and averages of parameters.

Each parameter has one array of its shape and dtype (float32 for a narrow parameter), and a native
object updates all of them in one call. Mirrored arrays are made for a tree or for an optimizer.
With an optimizer they follow the parameters that it trains, and are saved, loaded, copied and
pickled with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from thalweg import _core
from thalweg.compact.decoding import LOW, is_bfloat16, joined
from thalweg.errors import type_name, typed
from thalweg.optimizer import Optimizer
from thalweg.state.fitting import differences, kind_of, read, refusal
from thalweg.state.form import is_mirror, whole
from thalweg.state.held import held_by
from thalweg.state.state_dict import snapshot
from thalweg.tree import flatten, unflatten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from thalweg.state.attached import Counts

__all__ = ["Mirrored", "Planned"]


@dataclass
class Planned:
    """Planned loading of mirrored arrays; see `thalweg.state.attached.Planned`."""

    mirrored: Mirrored
    differences: list[str]
    fits: bool = True
    """False if nothing can be loaded; if True, only the entries that differ are left out."""
    count: int = 0
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    weight: float = 0.0
    values: dict[str, Any] = field(default_factory=dict)
    changed: tuple[Any, Any] | None = None
    before: frozenset[str] | None = None
    """Names of the arrays before `prepared` added some; None before that call."""

    def prepared(self) -> tuple[_core.Updater, Counts, dict[str, Any]]:
        """Make missing arrays; return the native object, and counters and state to load into it."""
        self.before = frozenset(self.mirrored.arrays)
        self.mirrored.follow(dict.fromkeys(self.states))
        states = {name: {**leaf, "step": whole(leaf["step"])} for name, leaf in self.states.items()}
        return self.mirrored.updater, (self.count, 0, 0, self.weight), states

    def undo(self) -> None:
        """Drop the arrays that `prepared` made, after loading failed."""
        if self.before is not None:
            self.mirrored.keep_only(self.before)

    def finish(self) -> None:
        """Set the values that are not arrays."""
        for key, value in self.values.items():
            setattr(self.mirrored, key, value)


class Mirrored(ABC):
    """One array for each parameter of a tree, or for each that an optimizer trains.

    Parameters
    ----------
    made : str
        Name of the user's class, for messages.
    params : tree of ndarray, or Optimizer
        The parameters to mirror.
    name : str
        Key in the optimizer's state dict.
    """

    kind: ClassVar[str]
    """Kind of the object in saved state."""
    array_key: ClassVar[str]
    """Name of its arrays in saved state."""
    keeps: ClassVar[bool] = False
    """Whether a parameter that is frozen later stays mirrored."""

    updater: _core.Updater
    arrays: dict[str, NDArray[Any]]
    bits: frozenset[str]
    """Names of parameters that are bfloat16 in arrays of uint16."""

    def __init__(self, made: str, params: Any, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, got {typed(name)}")
        self.made = made
        self.owner = held_by(params) if isinstance(params, Optimizer) else None
        if self.owner is not None:
            self.owner.check_attached(made)
        self.given = None if self.owner else params
        self.bits = frozenset() if self.owner is None else self.owner.bits
        self.arrays = {}
        self._set_up(self.tree, self._members())
        if self.owner is not None:
            self.revision = self.owner.revision
            self.owner.attached[name] = self

    @property
    def tree(self) -> Any:
        """The tree of parameters."""
        return self.given if self.owner is None else self.owner.tree

    def _members(self) -> dict[str, NDArray[Any]]:
        """The parameters to mirror: all of a tree, or those that an optimizer trains."""
        return flatten(self.given) if self.owner is None else self.owner.trained()

    def is_of(self, owner: object) -> bool:
        """Whether it follows `owner`; True before `__setstate__` has set its own owner."""
        return self.__dict__.get("owner", owner) is owner

    def _start(self, param: NDArray[Any]) -> NDArray[Any]:
        """Initial array for a new parameter."""
        return np.zeros_like(param, subok=False)

    def _started(self, name: str, param: Any) -> NDArray[Any]:
        """Initial array, for ndarrays only: NumPy would accept any object and drop masks."""
        if not isinstance(param, np.ndarray) or isinstance(param, np.ma.MaskedArray):
            masked = isinstance(param, np.ma.MaskedArray)
            got = "a masked array" if masked else type_name(param)
            way = (
                "fill it first (array.filled(0))"
                if masked
                else "convert it (np.asarray(x, np.float32))"
            )
            raise TypeError(
                f"parameter {name!r} must be a float32 or float64 ndarray, or a dict, list or "
                f"tuple of them, got {got}; {way}"
            )
        return self._start(self._whole(name, param))

    def _whole(self, name: str, param: NDArray[Any]) -> NDArray[Any]:
        """The parameter; if it is narrow, a copy in float32 with every digit."""
        if param.dtype != np.float16 and not is_bfloat16(param.dtype) and name not in self.bits:
            return param
        state = None if self.owner is None else self.owner.updater.state(name)
        return joined(param, (state or {}).get(LOW))

    @abstractmethod
    def _bind(self, tree: Any) -> None:
        """Bind the arrays to the native object."""

    def _values(self) -> dict[str, Any]:
        """Hyperparameters, in the form that the native object takes."""
        return {}

    def _set_up(self, tree: Any, members: Mapping[str, NDArray[Any]]) -> None:
        if not members and self.owner is None:
            raise ValueError("the tree must contain at least one array, got none")
        self.arrays = {name: self._started(name, param) for name, param in members.items()}
        self.updater = _core.Updater()
        leaves = flatten(tree)
        self._bind(unflatten({**leaves, **self.arrays}, like=tree))
        self.updater.configure(self._classes(), self._assignment(leaves, members))

    def _classes(self) -> list[dict[str, Any]]:
        return [self._values(), {**self._values(), "frozen": True}]

    def _assignment(self, leaves: Mapping[str, Any], members: Mapping[str, Any]) -> list[int]:
        """Class of each leaf: 0 for members, 1 (frozen) for all others, which are never touched."""
        return [int(name not in members) for name in leaves]

    def follow(self, more: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Add arrays for parameters that the optimizer now trains, and for `more` parameters."""
        if self.owner is None:
            return
        if self.owner.revision == self.revision and self.arrays.keys() >= more.keys():
            return
        members = {**self._members(), **more}
        if self.keeps:
            members.update(dict.fromkeys(self.arrays))
        self.bits |= self.owner.bits
        leaves = self.owner.params
        names = [name for name in members if name not in self.arrays]
        new = {name: self._started(name, leaves[name]) for name in names}
        tree = unflatten({**leaves, **self.arrays, **new}, like=self.tree)
        self.updater.extend(tree, self._classes(), self._assignment(leaves, members), self.bits)
        self.arrays.update(new)
        self.revision = self.owner.revision

    def keep_only(self, names: frozenset[str]) -> None:
        """Drop all other arrays; the next `follow` adds those of parameters that train."""
        if names < self.arrays.keys():
            self.arrays = {name: a for name, a in self.arrays.items() if name in names}
            self.revision = -1

    def state_dict(self, *, copy: bool) -> dict[str, Any]:
        """See `Mirror.state_dict`."""
        updater = self.updater
        return self.saved(*(snapshot(updater) if copy else updater.snapshot(list(self.arrays))))

    def saved(self, counts: Counts, state: dict[str, Any]) -> dict[str, Any]:
        """The object's entry in a state dict, from a snapshot."""
        ours = {name: state[name] for name in self.arrays}
        return {"kind": self.kind, "step_count": counts[0], **self._recorded(), "state": ours}

    def load(self, saved: Any) -> None:
        """See `Mirror.load_state_dict`."""
        planned = self.plan(saved, self._members(), use_saved=True)
        if planned.differences:
            raise ValueError(refusal("the state dict", planned.differences))
        try:
            _, counts, states = planned.prepared()
            self.updater.restore(counts, states)
        except BaseException:
            planned.undo()
            raise
        planned.finish()

    def plan(self, saved: Any, members: Mapping[str, Any], *, use_saved: bool) -> Planned:
        """Plan the loading of `saved`; `members` are the parameters that train afterwards.

        With `use_saved`, the saved hyperparameters replace the present ones.
        """
        if not is_mirror(saved) or saved["kind"] != self.kind:
            return Planned(self, [f"not the state of an {self.made}"], fits=False)
        params = members if self.owner is None else self.owner.params
        found = [f"missing: {name!r}" for name in members if name not in saved["state"]]
        planned = Planned(self, found, count=whole(saved["step_count"]))
        self._plan_values(saved, planned, use_saved=use_saved)
        for name, kept in saved["state"].items():
            leaf = read(kept)
            if not isinstance(params.get(name), np.ndarray):
                found.append(f"unexpected: {name!r}")
                continue
            kind = kind_of(self._whole(name, params[name]))
            if differ := differences(name, leaf, {self.array_key: kind}):
                found += differ
            else:
                planned.states[name] = leaf
        return planned

    @abstractmethod
    def _plan_values(self, saved: Mapping[str, Any], planned: Planned, *, use_saved: bool) -> None:
        """Compare the saved values other than counters and arrays; see `plan`."""

    @abstractmethod
    def _recorded(self) -> dict[str, Any]:
        """Values to save besides counters and arrays."""

    def __getstate__(self) -> dict[str, Any]:
        counts, state = self.updater.snapshot(list(self.arrays))
        kept = {key: value for key, value in self.__dict__.items() if key != "updater"}
        return {"attributes": kept, "counts": counts, "state": state}

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        # The optimizer may not be unpickled yet. So only the arrays are bound, by name;
        # `follow` binds the rest, as the revision differs.
        self.__dict__.update(pickled["attributes"])
        self.revision = -1
        self.updater = _core.Updater()
        if self.owner is None:
            self._bind(unflatten(self.arrays, like=self.given))
        else:
            self._bind(self.arrays or None)
        self.updater.configure(self._classes(), [0] * len(self.arrays))
        self.updater.restore(pickled["counts"], pickled["state"])

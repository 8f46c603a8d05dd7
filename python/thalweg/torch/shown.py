"""Synchronisation between an optimizer's `state` and the state of the native optimizer."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thalweg._core import holds
from thalweg.groups.rule import STATE_NAMES
from thalweg.torch.saved import own_keys, restored

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from thalweg.torch.bound import Bound, Slot

__all__ = ["Shown"]


class Shown:
    """Step counts that `state` shows, and a record of `state` at the last check.

    Parameters
    ----------
    state : dict
        State by parameter, as in torch's optimizers.
    bound : Bound, optional
        The native optimizer, if any parameter trains.
    room : int
        Maximum number of parameters that can train.
    names : collection of str
        Parameters whose state is shown at once, even if they have no update yet.
    """

    def __init__(
        self, state: dict[Any, Any], bound: Bound | None, room: int, names: Collection[str]
    ) -> None:
        self._counts = np.zeros(room)
        self._steps = torch.from_numpy(self._counts)
        self._told = self._counts.tobytes()
        self._known: list[tuple[Any, Any, Any]] = []
        self._live: list[Any] = []
        self._places: list[int] = []
        self._updated = 0
        self._woken: set[str] = set()
        if bound:
            for position, slot in enumerate(bound.slots):
                if slot.name in names:
                    self._show(state, bound, position, slot)
            self.count(state, bound, again=True)

    def _show(self, state: dict[Any, Any], bound: Bound, position: int, slot: Slot) -> None:
        step = {"step": self._steps[position]} if bound.counted else {}
        live = {**step, **bound.tensors(slot)}
        if live:
            state.setdefault(slot.param, {}).update(live)

    def count_all(self, state: dict[Any, Any], bound: Bound) -> None:
        """Update the shown counts after a step of all parameters."""
        if self._updated == len(bound.slots):
            self._counts[: self._updated] += 1  # a tenth of the time of `count`
            self._told = self._counts.tobytes()
        else:
            self.count(state, bound)

    def count(self, state: dict[Any, Any], bound: Bound, *, again: bool = False) -> None:
        """Show the core's counts, and the state of parameters after their first update."""
        steps = bound.native.leaf_steps()
        self._counts[: len(steps)] = steps
        self._told = self._counts.tobytes()
        updated = int(np.count_nonzero(self._counts))
        if not again and updated == self._updated:
            return
        for position, slot in enumerate(bound.slots):
            if steps[position] and state.get(slot.param, {}).get(bound.first) is None:
                self._show(state, bound, position, slot)
        self._updated = updated
        self._known = [(k, v, dict(v) if isinstance(v, dict) else v) for k, v in state.items()]
        entries = [state.get(slot.param, {}) for slot in bound.slots]
        tensors = [entry.get(key) for entry in entries for key in STATE_NAMES]
        self._live = [self._steps, *(t for t in tensors if isinstance(t, torch.Tensor))]
        self._places = self._places_now()

    def _places_now(self) -> list[int]:
        return [*map(torch.Tensor.data_ptr, self._live)]

    def show_again(self, state: dict[Any, Any], bound: Bound) -> None:
        """Show the live tensors again, with a warning, if shown tensors got other memory."""
        if self._places_now() == self._places:
            return
        warnings.warn(
            "the memory of a tensor in opt.state was replaced (t.data = ..., t.share_memory_()), "
            "but steps used the old memory, whose values are kept; assign another tensor instead "
            "(opt.state[p][key] = t)",
            stacklevel=4,
        )
        names = self.names(state, bound)
        self._steps = torch.from_numpy(self._counts)
        for position, slot in enumerate(bound.slots):
            if slot.name in names:
                self._show(state, bound, position, slot)
        self.count(state, bound, again=True)

    @staticmethod
    def names(state: dict[Any, Any], bound: Bound) -> set[str]:
        """Names of the parameters whose state is shown."""
        return {slot.name for slot in bound.slots if bound.first in state.get(slot.param, ())}

    def shows(self, state: Any) -> bool:
        """Whether `state` still has exactly the tensors shown, with unchanged counts."""
        return self._counts.tobytes() == self._told and holds(state, self._known)

    def wake(self, names: Iterable[str]) -> None:
        """Note parameters that have begun to train and are not shown yet."""
        self._woken.update(names)

    def adopt(self, state: Any, bound: Bound) -> None:
        """Copy tensors and entries assigned in `state` into the live ones, or change nothing.

        Raises
        ------
        TypeError, ValueError
            If they do not fit the rule or the parameter.
        """
        if not self._woken and self.shows(state):
            return
        if not isinstance(state, dict):
            raise TypeError(f"opt.state must be a dict, got {type(state).__name__}")
        changed = self._counts != np.frombuffer(self._told)
        known = {id(key): copy for key, _, copy in self._known}
        found: dict[int, dict[str, Any]] = {}
        gone: list[str] = []
        for position, slot in enumerate(bound.slots):
            entry = state.get(slot.param, {})
            before = {} if slot.name in self._woken else known.get(id(slot.param), {})
            if (
                isinstance(entry, dict)
                and not changed[position]
                and all(entry.get(key) is before.get(key) for key in own_keys(bound, slot))
            ):
                continue
            put = restored(bound, slot, entry, live=True)
            if put:
                found[position] = put
            else:
                gone.append(slot.name)
        bound.native.reset(gone)
        taken, skipped, running, weight = bound.native.snapshot([])[0]
        most = max((put["step"] for put in found.values()), default=0)
        states = {bound.slots[position].name: put for position, put in found.items()}
        bound.native.restore((max(taken, most), skipped, running, weight), states)
        for position in found:
            self._show(state, bound, position, bound.slots[position])
        self._woken.clear()
        self.count(state, bound, again=True)

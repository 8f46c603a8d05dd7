"""Synchronisation between an optimizer's `state` and the state of the native optimizer."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thalweg._core import holds
from thalweg.groups.rule import STATE_NAMES
from thalweg.torch.saved import PARTS, own_keys, restored

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
        self.counts = np.zeros(room)
        self._steps = torch.from_numpy(self.counts)
        self.known: dict[Any, Any] = {}
        self._live: list[Any] = []
        self._places: list[int] = []
        self._updated = 0
        self.woken: set[str] = set()
        if bound:
            for position, slot in enumerate(bound.slots):
                if slot.name in names:
                    self._show(state, bound, position, slot)
            self._refresh(state, bound)

    def _show(self, state: dict[Any, Any], bound: Bound, position: int, slot: Slot) -> None:
        step = {"step": self._steps[position]} if bound.counted else {}
        live = {**step, **bound.tensors(slot)}
        if live:
            state.setdefault(slot.param, {}).update(live)

    def add_updated(self, state: dict[Any, Any], bound: Bound) -> None:
        """Show the state of parameters after their first update."""
        if self._updated < len(bound.slots) and np.count_nonzero(self.counts) > self._updated:
            self._refresh(state, bound)

    def _refresh(self, state: dict[Any, Any], bound: Bound) -> None:
        """Show the core's counts and the state of updated parameters, and take a new record."""
        bound.native.show_steps(self.counts)
        self._updated = int(np.count_nonzero(self.counts))
        steps = self.counts.tolist()
        for position, slot in enumerate(bound.slots):
            if steps[position] and state.get(slot.param, {}).get(bound.first(slot)) is None:
                self._show(state, bound, position, slot)
        self.known = {k: dict(v) if isinstance(v, dict) else v for k, v in state.items()}
        entries = [state.get(slot.param, {}) for slot in bound.slots]
        tensors = [entry.get(key) for entry in entries for key in (*STATE_NAMES, *PARTS)]
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
        self._steps = torch.from_numpy(self.counts)
        for position, slot in enumerate(bound.slots):
            if slot.name in names:
                self._show(state, bound, position, slot)
        self._refresh(state, bound)

    @staticmethod
    def names(state: dict[Any, Any], bound: Bound) -> set[str]:
        """Names of the parameters whose state is shown."""
        slots = bound.slots
        return {slot.name for slot in slots if bound.first(slot) in state.get(slot.param, ())}

    def wake(self, names: Iterable[str]) -> None:
        """Note parameters that have begun to train and are not shown yet."""
        self.woken.update(names)

    def adopt(self, state: Any, bound: Bound) -> None:
        """Copy tensors and entries assigned in `state` into the live ones, or change nothing.

        Raises
        ------
        TypeError, ValueError
            If they do not fit the rule or the parameter.
        """
        native = bound.native
        if not self.woken and native.shows_steps(self.counts) and holds(state, self.known):
            return
        if not isinstance(state, dict):
            raise TypeError(f"opt.state must be a dict, got {type(state).__name__}")
        steps = native.leaf_steps()
        changed = self.counts[: len(steps)] != np.array(steps, float)
        found: dict[int, dict[str, Any]] = {}
        gone: list[str] = []
        for position, slot in enumerate(bound.slots):
            entry = state.get(slot.param, {})
            before = {} if slot.name in self.woken else self.known.get(slot.param, {})
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
        native.reset(gone)
        taken, skipped, running, weight = native.snapshot([])[0]
        most = max((put["step"] for put in found.values()), default=0)
        states = {bound.slots[position].name: put for position, put in found.items()}
        native.restore((max(taken, most), skipped, running, weight), states)
        for position in found:
            self._show(state, bound, position, bound.slots[position])
        self.woken.clear()
        self._refresh(state, bound)

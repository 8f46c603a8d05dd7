"""The base class of the optimizers: a `torch.optim.Optimizer` whose step is one native call."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections import defaultdict
from copy import deepcopy
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import profiler
from torch.optim import optimizer as torchs

from thalweg._core import holds
from thalweg.torch.bound import Bound, Counts, Slot
from thalweg.torch.groups import check_params, named
from thalweg.torch.saved import (
    check_state_dict,
    extras,
    hidden,
    kept,
    own_keys,
    restored,
    seen,
)
from thalweg.torch.shown import Shown
from thalweg.torch.tensors import count_write

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from thalweg._core import StepReport
    from thalweg.numbers import Real

__all__ = ["Optimizer"]

# Names of torch that a version may lack; then its wrapper of `step` is always called.
PRE_HOOKS = getattr(torchs, "_global_optimizer_pre_hooks", (None,))
POST_HOOKS = getattr(torchs, "_global_optimizer_post_hooks", (None,))


class Optimizer(torch.optim.Optimizer):
    """Base class of the optimizers."""

    report: StepReport | None
    """Report of the last step; None before the first, and if it raised or found no gradient."""

    state: defaultdict[Any, dict[str, Any]]
    """State by parameter, from its first update on, with torch's keys. The tensors are live. A
    tensor or entry assigned in their place is copied into them when the next step begins."""

    _given: dict[str, Any]
    """Options that are in no group: the treatment of bad gradients, the format of state."""
    _bound: Bound | None
    _asleep: list[tuple[str, Any, int]]
    """Parameters that require no grad and have no state: no arrays are made before a gradient."""
    _members: list[tuple[Any, ...]]
    """The parameters of each group."""
    _shown: Shown

    def __init__(self, params: Any, defaults: dict[str, Any], **given: Any) -> None:
        self._given = given
        self.report = None
        super().__init__(params, defaults)
        self._assemble(self.param_groups, {})

    @abstractmethod
    def _read(self, groups: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Hyperparameters of each group and common options, in the form that the core takes."""

    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `step` as torch does, but call torch's wrapper only if it has something to do.

        It takes as long as the step of a small model.
        """
        watched = torch.optim.Optimizer.profile_hook_step(func)

        @wraps(func)
        def step(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
            return (watched if self._is_watched() else func)(self, *args, **kwargs)

        return step

    def _is_watched(self) -> bool:
        return bool(
            getattr(profiler, "_is_profiler_enabled", True)
            or PRE_HOOKS
            or POST_HOOKS
            or self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
        )

    def _assemble(
        self,
        groups: list[dict[str, Any]],
        saved: Mapping[Any, Any],
        counts: Counts | None = None,
        *,
        live: bool = False,
    ) -> None:
        """Make the native optimizer for `groups` with the `saved` state, or change nothing.

        `live` is true if the state is that of `state`.
        """
        leaves = named(groups)
        classes, options = self._read(groups)
        awake = [leaf for leaf in leaves if leaf[1].requires_grad or kept(saved.get(leaf[1]))]
        slots = [Slot.of(*leaf) for leaf in awake]
        # If no parameter trains, an empty tensor lets the core check the hyperparameters.
        bound = Bound(slots or [Slot.of("", torch.zeros(0), 0)], classes, options)
        params = {id(leaf[1]) for leaf in leaves}
        state = defaultdict(dict, {k: v for k, v in saved.items() if id(k) not in params})
        states: dict[str, Any] = {}
        if slots:
            found = {s.name: restored(bound, s, saved.get(s.param, {}), live=live) for s in slots}
            states = {name: state for name, state in found.items() if state}
            most = max((state["step"] for state in states.values()), default=0)
            bound.native.restore(counts or (most, 0, 0, 0.0), states)
            for slot in slots:
                if others := extras(saved.get(slot.param, {}), own_keys(bound, slot)):
                    state[slot.param] = others
        self._bound = bound if slots else None
        trained = {slot.name for slot in slots}
        self._asleep = [leaf for leaf in leaves if leaf[0] not in trained]
        self._members = [tuple(group["params"]) for group in groups]
        self.param_groups = groups
        self.state = state
        self._show(states)

    def _show(self, names: Collection[str]) -> None:
        """Make `state` show the parameters `names`, with step counts for all parameters."""
        room = sum(map(len, self._members))
        self._shown = Shown(self.state, self._bound, room, names)

    def _adopt(self, *, saving: bool = False) -> None:
        """Copy tensors and entries that were assigned in `state` into the live ones."""
        if self._bound:
            self._shown.adopt(self.state, self._bound)
            if saving:
                # Not at each step: there it would take as long as all other checks together.
                self._shown.show_again(self.state, self._bound)

    def _current(self) -> Bound | None:
        """The native optimizer, updated with all changes since the last step."""
        bound, shown = self._bound, self._shown
        if (
            not bound
            or (self._asleep and any(leaf[1].grad is not None for leaf in self._asleep))
            or not holds([self.param_groups, self.state], [bound.groups, shown.known])
            or shown.woken
            or not bound.native.shows_steps(shown.counts)
        ):
            return self._changed()
        bound.look_again()
        return bound

    def _changed(self) -> Bound | None:
        """As `_current`, if groups or state may have changed or parameters begin to train."""
        groups = self.param_groups
        check_params(groups, self._members)
        classes, options = self._read(groups)
        self._adopt()
        bound = self._bound
        if bound and (options != bound.options or bound.switches_momentum(classes)):
            self._shown.show_again(self.state, bound)
            self._assemble(groups, self.state, bound.native.snapshot([])[0], live=True)
            bound = self._bound
        woken = [Slot.of(*leaf) for leaf in self._asleep if leaf[1].grad is not None]
        if woken:
            if bound:
                bound.extend(woken, classes)
            else:
                bound = self._bound = Bound(woken, classes, options)
            names = {slot.name for slot in woken}
            self._asleep = [leaf for leaf in self._asleep if leaf[0] not in names]
            self._shown.wake(names)
            self._shown.adopt(self.state, bound)
        if bound:
            bound.configure(classes, groups)
            bound.look_again()
        return bound

    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        max_norm: Real | None = None,
        max_tensor_norm: Real | None = None,
        max_value: Real | None = None,
        scale: Real = 1.0,
        stats: bool = False,
    ) -> Any:
        """Update every parameter that has a gradient, once, in place.

        Everything is checked before the first write, over all groups: a step that raises has
        changed no parameter and no state.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and the gradients again, and returns the loss.
        max_norm : float, optional
            Clips by the norm of all gradients together, ``min(1, max_norm / norm)``, inside the
            update; the gradients stay unchanged. `torch.nn.utils.clip_grad_norm_` has
            ``max_norm / (norm + 1e-6)``.
        max_tensor_norm : float, optional
            Clips each gradient by its own norm.
        max_value : float, optional
            Clips each element to ``[-max_value, max_value]``. At most one of the three limits.
        scale : float, default 1
            Factor on all gradients, finite and above 0; applied before clipping.
        stats : bool, default False
            Report norms of each gradient, parameter and update, in ``opt.report.stats``.

        Returns
        -------
        Any
            The result of `closure`, else None. `report` describes the step.

        Raises
        ------
        NonFiniteError
            If gradients are NaN, infinite or too large, unless `nonfinite` is "skip" or "ignore".
        TypeError, ValueError
            For gradients that do not fit, hyperparameters out of range, tensors whose memory cannot
            be updated.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        updated = self._step(
            max_norm=max_norm,
            max_tensor_norm=max_tensor_norm,
            max_value=max_value,
            scale=scale,
            stats=stats,
        )
        if not updated:
            # The level of the caller, above torch's hooks and this call.
            warnings.warn(
                "no parameter of the optimizer has a gradient, so nothing was updated; if the "
                "parameters of the model were replaced (as load_state_dict with assign=True "
                "does), make a new optimizer",
                stacklevel=4 if self._is_watched() else 3,
            )
        return loss

    def _take(self, **arguments: Any) -> bool:
        """Take a step; return False, without a step, if no parameter has a gradient."""
        self.report = None
        bound = self._current()
        if bound is None:
            return False
        grads, given = bound.gradients()
        if not given:
            return False
        # torch's threads are awake after its backward pass.
        self.report = bound.native.step(grads, shown=self._shown.counts, openmp=True, **arguments)
        if not self.report.skipped:
            # Autograd then refuses a backward pass through values saved before the step.
            count_write(given)
            self._shown.add_updated(self.state, bound)
        return True

    # A compiled step would work on copies of the arrays.
    _step = torch.compiler.disable(_take)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group with further parameters; the others keep their state.

        Parameters
        ----------
        param_group : dict
            ``params``, and hyperparameters that differ from the constructor's.

        Raises
        ------
        TypeError, ValueError
            As the constructor; nothing is changed.
        """
        super().add_param_group(param_group)
        params = self.param_groups[-1]["params"]
        if len({*map(id, params)}) < len(params):
            warnings.warn(
                "a parameter is in a group more than once; thalweg updates it once per step, "
                "torch.optim once per occurrence",
                stacklevel=2,
            )
        if "_members" not in self.__dict__:  # called by torch's constructor
            return
        try:
            self._join()
        except BaseException:
            self.param_groups.pop()
            raise

    def _join(self) -> None:
        """Bind the parameters of the last group."""
        self._adopt()
        shown = self._shown.names(self.state, self._bound) if self._bound else set()
        position = len(self.param_groups) - 1
        leaves = [leaf for leaf in named(self.param_groups) if leaf[2] == position]
        classes, options = self._read(self.param_groups)
        slots = [Slot.of(*leaf) for leaf in leaves if leaf[1].requires_grad]
        if self._bound:
            self._bound.extend(slots, classes)
        elif slots:
            self._bound = Bound(slots, classes, options)
        self._asleep += [leaf for leaf in leaves if not leaf[1].requires_grad]
        self._members.append(tuple(self.param_groups[-1]["params"]))
        self._show(shown)
        self._shown.wake(slot.name for slot in slots)

    def state_dict(self, *, copy: bool = True) -> dict[str, Any]:
        """State and groups in the form of `torch.optim`, which can load them.

        Parameters
        ----------
        copy : bool, default True
            False returns the live tensors, as torch does: they change with each step.

        Returns
        -------
        dict
            ``state`` and ``param_groups``.
        """
        self._adopt(saving=True)
        saved: dict[str, Any] = super().state_dict()
        return deepcopy(saved) if copy else saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load state and groups from a `state_dict` of this optimizer or of torch's.

        Parameters
        ----------
        state_dict : dict
            Only read; its contents are copied. State of another format is converted to that of this
            optimizer: decoded exactly, and encoded once, to nearest.

        Raises
        ------
        TypeError, ValueError
            If it does not fit; nothing is changed.
        """
        check_state_dict(state_dict)
        # Behind the user's hooks, because torch casts tensors to the dtype of their parameter next.
        hook = self.register_load_state_dict_pre_hook(lambda _, saved: hidden(saved))
        try:
            super().load_state_dict(state_dict)
        finally:
            hook.remove()

    def __getstate__(self) -> dict[str, Any]:
        self._adopt(saving=True)
        counts = self._bound and self._bound.native.snapshot([])[0]
        own = {"_given": self._given, "_counts": counts}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Called for pickles and copies, and by torch's `load_state_dict` after its check of groups.
        if "_bound" not in self.__dict__:
            self._given = state["_given"]
            self.report = None
            self.defaults = state["defaults"]
        groups = [{**self.defaults, **group} for group in state["param_groups"]]
        self._assemble(groups, seen(state["state"]), state.get("_counts"))
        super().__setstate__({})

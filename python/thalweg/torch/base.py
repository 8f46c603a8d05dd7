"""What the optimizers have in common: a `torch.optim.Optimizer` whose step is one native call."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections import defaultdict
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thalweg.torch.bound import Bound, Counts, Slot
from thalweg.torch.groups import check_params, named
from thalweg.torch.saved import restored
from thalweg.torch.tensors import count_write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thalweg import StepReport
    from thalweg.groups import Real

__all__ = ["Optimizer"]


class Optimizer(torch.optim.Optimizer):
    """What the optimizers have in common. Make one of `AdamW`, `Adam` and `SGD`."""

    report: StepReport | None
    """What the last step did; None before the first, where it raised, and without a gradient."""

    state: defaultdict[Any, dict[str, Any]]
    """By parameter, from its first update on: ``step``, ``exp_avg`` and so on. Live; edit in place.
    """

    _nonfinite: str
    _bound: Bound | None
    _asleep: list[tuple[str, Any, int]]
    """Parameters that never had a gradient: no array and no state is made for them."""
    _members: list[tuple[Any, ...]]
    """The parameters of each group."""
    _steps: Any
    """Number of updates of each slot; `state` has views of it."""
    _entries: int
    """How many entries `state` had when it was last looked at."""
    _updated: int
    """How many parameters were updated at least once by then."""

    def __init__(self, params: Any, defaults: dict[str, Any], nonfinite: str) -> None:
        self._nonfinite = nonfinite
        self.report = None
        super().__init__(params, defaults)
        self._assemble(self.param_groups, {})

    @abstractmethod
    def _read(self, groups: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Hyperparameters of each group, and options of all, as the core takes them."""

    def _assemble(
        self, groups: list[dict[str, Any]], saved: Mapping[Any, Any], counts: Counts | None = None
    ) -> None:
        """Make the native optimizer of these groups with this state, or change nothing."""
        leaves = named(groups)
        classes, options = self._read(groups)
        awake = [leaf for leaf in leaves if leaf[1].requires_grad or saved.get(leaf[1])]
        slots = [Slot.of(*leaf) for leaf in awake]
        # Without a parameter that trains, the numbers are checked on one that is no one's.
        bound = Bound(slots or [Slot.of("", torch.zeros(0), 0)], classes, options)
        if slots:
            found = {s.name: restored(bound, s, saved.get(s.param, {})) for s in slots}
            states = {name: state for name, state in found.items() if state}
            most = max((state["step"] for state in states.values()), default=0)
            bound.native._restore(counts or (most, 0, 0, 0.0), states)
        self._bound = bound if slots else None
        trained = {slot.name for slot in slots}
        self._asleep = [leaf for leaf in leaves if leaf[0] not in trained]
        self._members = [tuple(group["params"]) for group in groups]
        self.param_groups = groups
        self.state = defaultdict(dict)
        self._share()

    def _share(self) -> None:
        """Give `state` counts that have room for all parameters, and what was updated so far."""
        self._steps = torch.zeros(sum(map(len, self._members)), dtype=torch.float64)
        for position, slot in enumerate(self._bound.slots if self._bound else ()):
            if self.state.get(slot.param):
                self.state[slot.param]["step"] = self._steps[position]
        self._updated = 0
        self._count()

    def _count(self) -> None:
        """Show what the core has counted, and the state of what was updated for the first time."""
        if not self._bound:
            self._entries = self._updated = 0
            return
        counts = self._steps.numpy()
        steps = self._bound.native._leaf_steps()
        counts[: len(steps)] = steps
        updated = int(np.count_nonzero(counts))
        if updated != self._updated:
            for position, slot in enumerate(self._bound.slots):
                if steps[position] and not self.state.get(slot.param):
                    tensors = self._bound.tensors(slot)
                    self.state[slot.param] = {"step": self._steps[position], **tensors}
        self._entries, self._updated = len(self.state), updated

    def _current(self) -> Bound | None:
        """The native optimizer, once it has taken over what was changed since the last step."""
        groups = self.param_groups
        check_params(groups, self._members)
        classes, options = self._read(groups)
        bound = self._bound
        if bound:
            if len(self.state) != self._entries:
                self._forget(bound)
            if options != bound.options or bound.lacks_momentum(classes):
                self._count()
                self._assemble(groups, self.state, bound.native._snapshot([])[0])
                bound = self._bound
        woken = [Slot.of(*leaf) for leaf in self._asleep if leaf[1].grad is not None]
        if woken:
            if bound:
                bound.extend(woken, classes)
            else:
                bound = self._bound = Bound(woken, classes, options)
            names = {slot.name for slot in woken}
            self._asleep = [leaf for leaf in self._asleep if leaf[0] not in names]
        if bound:
            bound.configure(classes)
            bound.look_again()
        return bound

    def _forget(self, bound: Bound) -> None:
        """Start anew with what was deleted from `state`."""
        gone = [slot.name for slot in bound.slots if not self.state.get(slot.param)]
        bound.native._reset(gone)
        self._count()

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
            update; the gradients stay as they are. `torch.nn.utils.clip_grad_norm_` has
            ``max_norm / (norm + 1e-6)``.
        max_tensor_norm : float, optional
            Clips each gradient by its own norm.
        max_value : float, optional
            Brings each element into ``[-max_value, max_value]``. At most one of the three limits.
        scale : float, default 1
            Factor on all gradients, finite and above 0; applied before clipping.
        stats : bool, default False
            Report norms of each gradient, parameter and update, in ``opt.report.stats``.

        Returns
        -------
        Any
            What `closure` returned, else None. `report` has what the step did.

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
        limits = {
            "max_norm": max_norm,
            "max_tensor_norm": max_tensor_norm,
            "max_value": max_value,
        }
        if not self._step(scale=scale, stats=stats, **limits):
            # Through the frames of hooks and of this call.
            warnings.warn(
                "no parameter of the optimizer has a gradient, so nothing was updated; if the "
                "model has other parameters by now (load_state_dict with assign=True makes them), "
                "make a new optimizer",
                stacklevel=3,
            )
        return loss

    def _take(self, **arguments: Any) -> bool:
        """Whether any parameter had a gradient, and so a step was taken."""
        self.report = None
        bound = self._current()
        if bound is None:
            return False
        first = bound.options["maximize"]
        negated = [i for i, g in enumerate(self.param_groups) if bool(g["maximize"]) != first]
        grads, given = bound.gradients(negated)
        if not given:
            return False
        self.report = bound.native.step(grads, **arguments)
        if not self.report.skipped:
            # So that autograd refuses a backward pass through what was saved before.
            count_write(given)
            self._count()
        return True

    # A compiled step would have copies of the arrays.
    _step = torch.compiler.disable(_take)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Train more parameters, with a group of their own; the others keep their state.

        Parameters
        ----------
        param_group : dict
            ``params``, and hyperparameters where they differ from the constructor's.

        Raises
        ------
        TypeError, ValueError
            For what the constructor would refuse; nothing is changed then.
        """
        super().add_param_group(param_group)
        if "_members" not in self.__dict__:  # the constructor is at work
            return
        try:
            self._join()
        except BaseException:
            self.param_groups.pop()
            raise

    def _join(self) -> None:
        """Take in the last group."""
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
        self._share()

    def state_dict(self, *, copy: bool = True) -> dict[str, Any]:
        """State and groups, in the form of `torch.optim`, which can load them.

        Parameters
        ----------
        copy : bool, default True
            False gives the live tensors, as torch does: they go on changing with each step.

        Returns
        -------
        dict
            ``state`` and ``param_groups``.
        """
        self._count()
        saved: dict[str, Any] = super().state_dict()
        return deepcopy(saved) if copy else saved

    def __getstate__(self) -> dict[str, Any]:
        self._count()
        counts = self._bound and self._bound.native._snapshot([])[0]
        own = {"_nonfinite": self._nonfinite, "_counts": counts}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Of a pickle or copy, or of `load_state_dict`, which has checked that the groups fit.
        if "_bound" not in self.__dict__:
            self._nonfinite = state["_nonfinite"]
            self.report = None
            self.defaults = state["defaults"]
        groups = [{**self.defaults, **group} for group in state["param_groups"]]
        self._assemble(groups, state["state"], state.get("_counts"))
        super().__setstate__({})

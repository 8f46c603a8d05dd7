"""The native optimizer, bound to the memory of the tensors that train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from thalweg import _core
from thalweg.groups.rule import Rule
from thalweg.torch.groups import copied
from thalweg.torch.numbers import in_torchs_words
from thalweg.torch.tensors import gradient_array, parameter_array

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

data_ptr, stride = torch.Tensor.data_ptr, torch.Tensor.stride

Counts = tuple[int, int, int, float]


class Slot(NamedTuple):
    """A parameter that trains, with the array of its memory at the last check."""

    name: str
    param: Any
    group: int
    array: NDArray[Any]

    @classmethod
    def of(cls, name: str, param: Any, group: int) -> Slot:
        """The slot of a parameter, after checking it."""
        return cls(name, param, group, parameter_array(name, param))


class Bound:
    """A native optimizer and the slots of its parameters, in its order.

    Parameters
    ----------
    slots : sequence of Slot
        At least one.
    classes : list of dict
        Hyperparameters of each group.
    options : mapping
        Settings that all groups share: the rule, its choices, the treatment of bad gradients.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        classes: list[dict[str, Any]],
        options: Mapping[str, Any],
    ) -> None:
        self.options = options
        self.negated: Collection[int] = ()
        """Groups whose gradients are negated."""
        self.native = _core.Updater()
        rule, nonfinite = Rule.named(options["rule"]), options["nonfinite"]
        self.counted = rule.keeps("exp_avg")
        """Whether the state of torch's optimizer has a step count per parameter."""
        self.first = "step" if self.counted else "momentum_buffer"
        """A key in the state of every parameter that was updated."""
        choices = {key: options.get(key, False) for key in rule.choices}
        arrays = {slot.name: slot.array for slot in slots}
        self.native.bind(arrays, rule.name, choices, nonfinite)
        assignment = [slot.group for slot in slots]
        in_torchs_words(
            self.native.configure, classes, assignment, classes=classes, options=options
        )
        self._take(slots, classes)

    def _take(self, slots: Sequence[Slot], classes: list[dict[str, Any]]) -> None:
        self.slots, self.classes = list(slots), classes
        self.groups: list[dict[str, Any]] | None = None
        """Copies of the groups that have these hyperparameters, for `holds`; None if unknown."""
        self._pairs = [(slot.name, slot.param) for slot in slots]
        self._params = [slot.param for slot in slots]
        self._pointers = [*map(data_ptr, self._params)]
        self._strides = [*map(stride, self._params)]

    def extend(self, more: Sequence[Slot], classes: list[dict[str, Any]]) -> None:
        """Add slots, and adopt the present memory of the others, or change nothing."""
        slots = [*(Slot.of(*slot[:3]) for slot in self.slots), *more]
        tree = {slot.name: slot.array for slot in slots}
        assignment = [slot.group for slot in slots]
        in_torchs_words(
            self.native.extend, tree, classes, assignment, classes=classes, options=self.options
        )
        self._take(slots, classes)

    def lacks_momentum(self, classes: list[dict[str, Any]]) -> bool:
        """Whether a group has momentum now and had none before, so that buffers are missing."""
        pairs = zip(self.classes, classes, strict=False)
        return any(new.get("momentum") and not old["momentum"] for old, new in pairs)

    def configure(self, classes: list[dict[str, Any]], groups: list[dict[str, Any]]) -> None:
        """Replace the hyperparameters by those of `groups`, or change nothing on error."""
        if classes == self.classes:
            self.groups = copied(groups)
        else:
            # Not copied now: a schedule changes them again before the next step.
            self.groups = None
            assignment = [slot.group for slot in self.slots]
            in_torchs_words(
                self.native.configure, classes, assignment, classes=classes, options=self.options
            )
            self.classes = classes
        first = self.options["maximize"]
        self.negated = [i for i, group in enumerate(groups) if bool(group["maximize"]) != first]

    def look_again(self) -> None:
        """Adopt the present memory of parameters, as after ``p.data = ...``."""
        # Required before each step: `share_memory_` frees memory that an array still views.
        # For models with thousands of parameters, `map` takes half the time of a loop.
        params = self._params
        if [*map(data_ptr, params)] != self._pointers or [*map(stride, params)] != self._strides:
            self.extend([], self.classes)

    def gradients(self) -> tuple[dict[str, Any], list[Any]]:
        """Gradients by name, negated for some groups, and the parameters that have one."""
        grads: dict[str, Any] = {}
        given = []
        # Few objects and calls: in a training loop, none of them is in a cache.
        for name, param in self._pairs:
            gradient = param.grad
            if gradient is None:
                grads[name] = None
                continue
            try:
                grads[name] = gradient.numpy()
            except (RuntimeError, TypeError):
                grads[name] = gradient_array(name, gradient)
            given.append(param)
        if self.negated:
            for slot in self.slots:
                if slot.group in self.negated and grads[slot.name] is not None:
                    grads[slot.name] = np.negative(grads[slot.name])
        return grads, given

    def tensors(self, slot: Slot) -> dict[str, Any]:
        """The state of a parameter, as tensors that share memory with the live arrays."""
        arrays = self.native.state(slot.name) or {}
        return {key: torch.from_numpy(array) for key, array in arrays.items()}

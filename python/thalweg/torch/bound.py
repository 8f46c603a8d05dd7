"""The native optimizer, bound to the memory of the tensors that train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from thalweg import _core
from thalweg.groups.rule import Rule
from thalweg.torch.numbers import in_torchs_words
from thalweg.torch.tensors import gradient_array, parameter_array

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

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
        self.native = _core.Updater()
        rule, nonfinite = Rule.named(options["rule"]), options["nonfinite"]
        self.counted = rule.keeps("exp_avg")
        """Whether the state of torch's optimizer has a step count per parameter."""
        self.first = "step" if self.counted else "momentum_buffer"
        """A key in the state of every parameter that was updated."""
        choices = {key: options.get(key, False) for key in rule.choices}
        arrays = {slot.name: slot.array for slot in slots}
        self.native.bind(arrays, rule.name, choices, nonfinite)
        with in_torchs_words(classes, options):
            self.native.configure(classes, [slot.group for slot in slots])
        self._take(slots, classes)

    def _take(self, slots: Sequence[Slot], classes: list[dict[str, Any]]) -> None:
        self.slots, self.classes = list(slots), classes
        self._params = [slot.param for slot in slots]
        self._pointers, self._strides = self._places()

    def _places(self) -> tuple[list[int], list[tuple[int, ...]]]:
        # For models with thousands of parameters, `map` takes half the time of a loop.
        tensor = torch.Tensor
        return [*map(tensor.data_ptr, self._params)], [*map(tensor.stride, self._params)]

    def extend(self, more: Sequence[Slot], classes: list[dict[str, Any]]) -> None:
        """Add slots, and adopt the present memory of the others, or change nothing."""
        slots = [*(Slot.of(*slot[:3]) for slot in self.slots), *more]
        tree = {slot.name: slot.array for slot in slots}
        with in_torchs_words(classes, self.options):
            self.native.extend(tree, classes, [slot.group for slot in slots])
        self._take(slots, classes)

    def lacks_momentum(self, classes: list[dict[str, Any]]) -> bool:
        """Whether a group has momentum now and had none before, so that buffers are missing."""
        pairs = zip(self.classes, classes, strict=False)
        return any(new.get("momentum") and not old["momentum"] for old, new in pairs)

    def configure(self, classes: list[dict[str, Any]]) -> None:
        """Replace the hyperparameters, or change nothing on error."""
        if classes != self.classes:
            with in_torchs_words(classes, self.options):
                self.native.configure(classes, [slot.group for slot in self.slots])
            self.classes = classes

    def look_again(self) -> None:
        """Adopt the present memory of parameters, as after ``p.data = ...``."""
        # Required before each step: `share_memory_` frees memory that an array still views.
        if self._places() != (self._pointers, self._strides):
            self.extend([], self.classes)

    def gradients(self, negated: Collection[int]) -> tuple[dict[str, Any], list[Any]]:
        """Gradients by name, negated for some groups, and the parameters that have one."""
        found = [param.grad for param in self._params]
        try:
            arrays = [None if gradient is None else gradient.numpy() for gradient in found]
        except (RuntimeError, TypeError):
            arrays = [
                None if gradient is None else gradient_array(slot.name, gradient)
                for slot, gradient in zip(self.slots, found, strict=True)
            ]
        if negated:
            arrays = [
                np.negative(array) if array is not None and slot.group in negated else array
                for slot, array in zip(self.slots, arrays, strict=True)
            ]
        grads = {slot.name: array for slot, array in zip(self.slots, arrays, strict=True)}
        pairs = zip(self._params, found, strict=True)
        return grads, [param for param, gradient in pairs if gradient is not None]

    def tensors(self, slot: Slot) -> dict[str, Any]:
        """The state of a parameter, as tensors that share memory with the live arrays."""
        arrays = self.native.state(slot.name) or {}
        return {key: torch.from_numpy(array) for key, array in arrays.items()}

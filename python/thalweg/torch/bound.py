"""The native optimizer, bound to the memory of the tensors that train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from thalweg import _core
from thalweg.compact.decoding import LOW
from thalweg.groups.rule import Rule
from thalweg.rows import Rows
from thalweg.torch.groups import copied
from thalweg.torch.numbers import in_torchs_words
from thalweg.torch.tensors import BITS, bits_of, gradient_array, parameter_array, tensor_of

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

    def again(self) -> Slot:
        """The slot with the present memory of its parameter.

        Raises
        ------
        ValueError
            If bfloat16 numbers and others have replaced each other; the core compares the rest.
        """
        slot = Slot.of(*self[:3])
        if (slot.array.dtype == BITS) != (self.array.dtype == BITS):
            raise ValueError(
                f"parameter {self.name!r} must be {_kind(self)} as before, got {_kind(slot)}; "
                "make a new optimizer for another shape or dtype"
            )
        return slot

    @property
    def narrow(self) -> bool:
        """Whether the parameter is bfloat16 or float16, and a part of its state completes it."""
        return self.array.dtype.itemsize == 2


def _kind(slot: Slot) -> str:
    dtype = "bfloat16" if slot.array.dtype == BITS else slot.array.dtype
    return f"{dtype} {slot.array.shape}"


class Bound:
    """A native optimizer and the slots of its parameters, in its order.

    Parameters
    ----------
    slots : sequence of Slot
        At least one.
    classes : list of dict
        Hyperparameters of each group.
    options : mapping
        Settings that all groups share: the rule, its choices, the format of the state, the
        treatment of bad gradients.
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
        self.counts = rule.name != "SGDW"
        """Whether the state of torch has a step count per parameter. SGD's has none."""
        self.counted = self.counts or options["state"] != "full"
        """Whether the state here has one. The bits of bfloat16 state depend on it."""
        choices = {key: options.get(key, False) for key in rule.choices}
        arrays = {slot.name: slot.array for slot in slots}
        self._check_format(slots)
        self.native.bind(arrays, rule.name, choices, nonfinite, _bfloat16(slots))
        assignment = [slot.group for slot in slots]
        in_torchs_words(
            self.native.configure,
            self._given(classes),
            assignment,
            classes=classes,
            options=options,
        )
        self._take(slots, classes)

    def first(self, slot: Slot) -> str:
        """A key in the state of the parameter if it was updated and has state."""
        return "step" if self.counted else LOW if slot.narrow else "momentum_buffer"

    def _given(self, classes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The classes in the form of the core, with the format of their state."""
        return [{**values, "state": self.options["state"]} for values in classes]

    def _check_format(self, slots: Sequence[Slot]) -> None:
        """Refuse float64 parameters that would have smaller state.

        The core refuses them too, but advises a group with another format.
        """
        for slot in slots:
            if self.options["state"] != "full" and slot.param.dtype is torch.float64:
                raise ValueError(
                    f"state of {slot.name!r} must be 'full', because the parameter is float64, got "
                    f"{self.options['state']!r}; convert the parameter to float32, or give it an "
                    "optimizer of its own"
                )

    def _take(self, slots: Sequence[Slot], classes: list[dict[str, Any]]) -> None:
        self.slots, self.classes = list(slots), classes
        self.groups: list[dict[str, Any]] | None = None
        """Copies of the groups that have these hyperparameters, for `holds`; None if unknown."""
        self._pairs = [(slot.name, slot.param) for slot in slots]
        self._params = [slot.param for slot in slots]
        self._bits = _bfloat16(slots)
        self._pointers = [*map(data_ptr, self._params)]
        self._strides = [*map(stride, self._params)]

    def extend(self, more: Sequence[Slot], classes: list[dict[str, Any]]) -> None:
        """Add slots, and adopt the present memory of the others, or change nothing."""
        slots = [*(slot.again() for slot in self.slots), *more]
        self._check_format(more)
        tree = {slot.name: slot.array for slot in slots}
        arguments = tree, self._given(classes), [slot.group for slot in slots], _bfloat16(slots)
        in_torchs_words(self.native.extend, *arguments, classes=classes, options=self.options)
        self._take(slots, classes)

    def switches_momentum(self, classes: list[dict[str, Any]]) -> bool:
        """Whether momentum begins or ends in a group, so that buffers are missing or rest."""
        pairs = zip(self.classes, classes, strict=False)
        return any(bool(new.get("momentum")) != bool(old.get("momentum")) for old, new in pairs)

    def configure(self, classes: list[dict[str, Any]], groups: list[dict[str, Any]]) -> None:
        """Replace the hyperparameters by those of `groups`, or change nothing on error."""
        if classes == self.classes:
            self.groups = copied(groups)
        else:
            # Not copied now: a schedule changes them again before the next step.
            self.groups = None
            assignment = [slot.group for slot in self.slots]
            arguments = self._given(classes), assignment
            in_torchs_words(
                self.native.configure, *arguments, classes=classes, options=self.options
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
        grads, given = self._mixed() if self._bits else self._plain()
        if self.negated:
            for slot in self.slots:
                if slot.group in self.negated and grads[slot.name] is not None:
                    grads[slot.name] = _negative(grads[slot.name])
        return grads, given

    def _plain(self) -> tuple[dict[str, Any], list[Any]]:
        """Gradients of parameters none of which is bfloat16, and the parameters that have one."""
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
                grads[name] = self._other(name, gradient, bits=False)
            given.append(param)
        return grads, given

    def _mixed(self) -> tuple[dict[str, Any], list[Any]]:
        """As `_plain`, if some parameters are bfloat16."""
        grads: dict[str, Any] = {}
        given = []
        for name, param in self._pairs:
            gradient = param.grad
            if gradient is None:
                grads[name] = None
                continue
            bits = name in self._bits
            try:
                if not bits:
                    grads[name] = gradient.numpy()
                elif gradient.dtype is torch.bfloat16:
                    grads[name] = bits_of(gradient)
                else:  # checked, because the core would read any uint16 as bits
                    grads[name] = self._other(name, gradient, bits=True)
            except (RuntimeError, TypeError):
                grads[name] = self._other(name, gradient, bits=bits)
            given.append(param)
        return grads, given

    def _other(self, name: str, gradient: Any, *, bits: bool) -> NDArray[Any] | Rows:
        """A gradient for which `Tensor.numpy` raises.

        Raises
        ------
        TypeError, ValueError
            As `gradient_array`, and for a sparse one whose group does not tell what it means.
        """
        array = gradient_array(name, gradient, bits=bits)
        if isinstance(array, Rows):
            group = next(slot.group for slot in self.slots if slot.name == name)
            if self.classes[group]["rows"] is None:
                raise TypeError(
                    f"the gradient of {name!r} is sparse, so the optimizer must be told what it "
                    "means: rows='lazy' (only its rows change, as with torch.optim.SparseAdam) or "
                    "rows='dense' (the gradient of the others is zero); pass one to the "
                    "constructor or in the group of the parameter"
                )
        return array

    def tensors(self, slot: Slot) -> dict[str, Any]:
        """The state of a parameter, as tensors that share memory with the live arrays."""
        arrays = self.native.state(slot.name) or {}
        return {key: tensor_of(array) for key, array in arrays.items()}


def _bfloat16(slots: Sequence[Slot]) -> set[str]:
    """Names of the parameters that are bfloat16."""
    return {slot.name for slot in slots if slot.array.dtype == BITS}


def _negative(gradient: NDArray[Any] | Rows) -> Any:
    if isinstance(gradient, Rows):
        return Rows(gradient.indices, _negative(gradient.values))
    if gradient.dtype == BITS:
        negated: NDArray[Any] = gradient ^ np.uint16(0x8000)
    else:
        negated = np.negative(gradient)
    return negated

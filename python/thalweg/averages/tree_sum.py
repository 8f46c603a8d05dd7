"""Sums of micro-batches in a fixed tree, whose bits do not depend on who adds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg import _core
from thalweg.averages.leaves import can_join
from thalweg.optimizer import Optimizer
from thalweg.state.held import held_by
from thalweg.tree import flatten, unflatten

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thalweg.numbers import Real

__all__ = ["Buffers", "TreeSum", "summed", "sums"]

WHOLE = np.dtype(np.float32)
"""Dtype of the sum for a parameter that is neither float32 nor float64."""


class Buffer:
    """Arrays for one sum, and the native object that adds to them."""

    def __init__(self, tree: Any, trained: Mapping[str, Any], bits: frozenset[str]) -> None:
        leaves = flatten(tree)
        self.arrays: dict[str, NDArray[Any]] = {
            name: np.empty(np.shape(param), summed(param.dtype)) for name, param in trained.items()
        }
        self.updater = _core.Updater()
        self.updater.bind(
            unflatten({**leaves, **self.arrays}, like=tree), "sum", {}, "ignore", bits
        )
        self.updater.configure([{}, {"frozen": True}], [int(n not in trained) for n in leaves])

    def add(self, grads: Any, weight: Real) -> None:
        """Add gradients, or nothing on error. A tree of None is a gradient too."""
        try:
            self.updater.step(grads, scale=weight)
        except ValueError:
            if flatten(grads):
                raise

    def present(self) -> list[NDArray[Any] | None]:
        """The sums in the order of the tree; None for a parameter without a gradient."""
        steps = zip(self.updater.leaf_names(), self.updater.leaf_steps(), strict=True)
        return [self.arrays[name] if step else None for name, step in steps]


@dataclass
class Part:
    """The sum of leaves ``start`` to ``start + width``."""

    start: int
    width: int
    buffer: Buffer


class Buffers:
    """Buffers for the sums of one tree, used again from sum to sum."""

    def __init__(
        self, tree: Any, trained: Mapping[str, Any], bits: frozenset[str] = frozenset()
    ) -> None:
        self.tree = tree
        self.trained = dict(trained)
        self.bits = bits
        self.names = list(flatten(tree))
        self._free: list[Buffer] = []

    def take(self) -> Buffer:
        """An empty buffer."""
        return self._free.pop() if self._free else Buffer(self.tree, self.trained, self.bits)

    def give_back(self, buffer: Buffer) -> None:
        """Empty a buffer, and keep it."""
        buffer.updater.reset()
        self._free.append(buffer)


def summed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which gradients of a parameter are summed."""
    return dtype if dtype == np.float64 else WHOLE


class TreeSum(Mapping[str, Any]):
    """The sum of the gradients of micro-batches, in a fixed tree; made by `thalweg.sums`.

    Leaf number `i` is the `i`-th gradient that is added. Leaves 0 and 1 are added, leaves 2 and 3,
    then these two sums, and so on; what is left over is joined from the right::

        (g0 + g1) + (g2 + g3)      4 leaves
        (g0 + g1) + g2             3 leaves

    A sum is a mapping of names to arrays, None for a parameter that no leaf had a gradient for, so
    that a step takes it: ``opt.step(total)``.
    """

    def __init__(self, buffers: Buffers, leaves: range | None = None) -> None:
        self._buffers = buffers
        self._leaves = leaves
        self._next = 0 if leaves is None else leaves.start
        self._parts: list[Part] = []
        self._result: dict[str, NDArray[Any] | None] | None = None

    @property
    def count(self) -> int:
        """Number of leaves that were added."""
        return self._next - (0 if self._leaves is None else self._leaves.start)

    def add(self, grads: Any, weight: Real = 1.0) -> None:
        """Add the gradients of the next micro-batch.

        Parameters
        ----------
        grads : tree of ndarray, or dict of names
            As for `Optimizer.step`; a None skips its subtree.
        weight : float, default 1
            Factor, above 0; for a mean gradient, its number of samples or tokens.

        Raises
        ------
        ValueError, TypeError
            As `Optimizer.step`, for gradients that do not fit, and for a leaf too many; nothing is
            added.
        """
        weight = _core.check_hyperparameter("weight", weight)
        leaf, parts, buffers = self._next, self._parts, self._buffers
        if self._leaves is not None and leaf not in self._leaves:
            raise ValueError(
                f"this rank has {len(self._leaves)} of the leaves of a step, all of which were "
                "added; add the gradients of opt.leaves alone, then take the step"
            )
        if self._result is not None:
            raise ValueError("the sum was read, so no leaf can follow; call clear() for a new sum")
        if parts and can_join((parts[-1].start, parts[-1].width), (leaf, 1)):
            parts[-1].buffer.add(grads, weight)
            parts[-1].width = 2
        else:
            buffer = buffers.take()
            try:
                buffer.add(grads, weight)
            except BaseException:
                buffers.give_back(buffer)
                raise
            parts.append(Part(leaf, 1, buffer))
        self._next += 1
        while len(parts) > 1 and can_join(*((p.start, p.width) for p in parts[-2:])):
            self._join()

    def _join(self) -> None:
        """Add the last part to the one before it."""
        right, left = self._parts.pop(), self._parts[-1]
        present = dict(zip(self._buffers.names, right.buffer.present(), strict=True))
        left.buffer.add(present, 1.0)
        left.width += right.width
        self._buffers.give_back(right.buffer)

    def parts(self) -> list[list[NDArray[Any] | None]]:
        """The sums of whole subtrees, in the order of their leaves: an array for each parameter."""
        return [part.buffer.present() for part in self._parts]

    def check(self, buffers: Buffers, leaves: range) -> None:
        """Refuse a sum that is not complete, or not one for these leaves and parameters."""
        if self._leaves is None or self._buffers is not buffers:
            raise ValueError(
                "the sum is not one of this optimizer, or was made before other parameters began "
                "to train; make it by opt.sums()"
            )
        if self._next != leaves.stop:
            raise ValueError(
                f"{self.count} of the {len(leaves)} leaves of this rank were added; add the "
                "gradients of all leaves in opt.leaves before the step"
            )

    def clear(self) -> None:
        """Begin a new sum in the same memory."""
        while self._parts:
            self._buffers.give_back(self._parts.pop().buffer)
        self._next = 0 if self._leaves is None else self._leaves.start
        self._result = None

    def _whole(self) -> dict[str, NDArray[Any] | None]:
        if self._leaves is not None:
            raise TypeError(
                "this is one rank's part of a sum; pass it to the step of the optimizer that made "
                "it"
            )
        if self._result is None:
            while len(self._parts) > 1:
                self._join()
            names = self._buffers.names
            arrays = self.parts()[0] if self._parts else [None] * len(names)
            self._result = dict(zip(names, arrays, strict=True))
        return self._result

    def __getitem__(self, name: str) -> NDArray[Any] | None:
        return self._whole()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._buffers.names)

    def __repr__(self) -> str:
        return f"TreeSum({len(self)} arrays, {self.count} leaves)"


def sums(params: Any) -> TreeSum:
    """A sum of the gradients of micro-batches whose bits are those of many machines.

    `Accumulator` adds gradients one after the other. This adds them in the tree in which
    `thalweg.mpi` adds those of many processes, so that one process has the same bits.

    Parameters
    ----------
    params : tree of ndarray, or Optimizer
        The parameters whose gradients are summed. An optimizer stands for the parameters that it
        trains now.

    Returns
    -------
    TreeSum
        An empty sum. It holds as many arrays for each parameter as the number of leaves so far has
        ones in binary, at least one; they are kept for the sums after `TreeSum.clear`.

    See Also
    --------
    Accumulator : Sums that are saved with the optimizer.
    thalweg.mpi.sharded : The same for many processes.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> params = {"w": np.ones(2)}
    >>> opt = thalweg.SGD(params, lr=0.1)
    >>> total = thalweg.sums(params)
    >>> for leaf in range(3):
    ...     total.add({"w": np.array([1.0, leaf])})
    >>> total["w"]
    array([3., 3.])
    >>> report = opt.step(total, scale=1 / 3)
    >>> params["w"]
    array([0.9, 0.9])
    >>> total.clear()
    """
    if isinstance(params, Optimizer):
        held = held_by(params)
        return TreeSum(Buffers(held.tree, held.trained(), held.bits))
    leaves = flatten(params)
    if not leaves:
        raise ValueError("the tree must contain at least one array, got none")
    return TreeSum(Buffers(params, leaves))

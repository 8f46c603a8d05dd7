"""The data of a sharded optimizer: whole parameters, and state for this rank's share of them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from thalweg import _core
from thalweg.groups.cascade import Cascade
from thalweg.groups.group import values_of
from thalweg.groups.matching import Names
from thalweg.groups.values import native, resolve
from thalweg.mpi.shares import cut
from thalweg.rules.sgd import SGD
from thalweg.state.held import Held
from thalweg.tree import flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from thalweg.groups.group import Group
    from thalweg.mapped.arrays import Kind
    from thalweg.mpi.transport import Transport

    Memory = tuple[int, tuple[int, ...], tuple[int, ...], np.dtype[Any]]

__all__ = ["ShardedHeld"]

ANOTHER = (
    "is not possible for a sharded optimizer; make another (thalweg.mpi.sharded(...)), and load "
    "what this one saved"
)


class ShardedHeld(Held):
    """As `Held`. The native object is bound to this rank's pieces of the parameters, flat."""

    bounds: dict[str, tuple[int, ...]]
    """For each parameter, where the share of each rank begins, and its size at the end."""
    pieces: dict[str, NDArray[Any]]
    """This rank's share of each parameter."""

    def __init__(self, optimizer: Any, updater: _core.Updater, transport: Transport) -> None:
        super().__init__(optimizer, updater)
        self.transport = transport
        self.bounds = {}
        self.pieces = {}
        self._memory: dict[str, Memory] = {}
        self._whole = _core.Updater()
        self._choices: dict[str, bool] = {}
        self._values: dict[str, Callable[[], dict[str, Any]]] = {}
        self.receive: Callable[[dict[str, dict[str, Any]]], dict[str, dict[str, Any]]] | None = None
        """Gets the arrays of a load from rank 0, during a load."""

    def start(self, *args: Any, state_dir: Any = None, **kwargs: Any) -> None:
        """As `Held.start`."""
        if state_dir is not None:
            raise ValueError("state_dir is not possible for a sharded optimizer; leave it out")
        super().start(*args, **kwargs)

    def _bind(self, params: Any, choices: dict[str, bool]) -> dict[str, Any]:
        # The pieces are bound by `adopt`, which knows the groups.
        self._choices = choices
        nonfinite = self.options["nonfinite"]
        return dict(self._whole.bind(params, self.rule.name, choices, nonfinite, self.bits))

    def adopt(
        self,
        groups: Sequence[Group],
        trained: Mapping[str, int] = MappingProxyType({}),
        restored: Any = None,
        attached: Sequence[Any] = (),
    ) -> None:
        """As `Held.adopt`."""
        for group in groups:
            self._check_rows(values_of(group))
        cascade = Cascade(groups, self.params)
        self._check_memory(cascade)
        if not self.pieces:
            self._divide(groups, cascade)
        super().adopt(groups, trained, restored, attached)

    def edit(self, group: Group, values: dict[str, Any]) -> None:
        """As `Held.edit`."""
        self._check_rows(values)
        before = values_of(group)
        super().edit(group, values)
        if before.get("frozen") != values.get("frozen"):
            try:
                self._check_memory(self.cascade)
            except BaseException:
                super().edit(group, before)
                raise

    def _check_rows(self, values: Mapping[str, Any]) -> None:
        if values.get("rows") == "lazy" or values.get("row_steps"):
            raise ValueError(
                "rows='lazy' and row_steps are not possible for a sharded optimizer, which sums "
                "gradients as whole arrays; leave them out, and Rows are added to these sums"
            )

    def _check_memory(self, cascade: Cascade) -> None:
        """Refuse what one process refuses in parameters that train, as in arrays that overlap.

        The pieces are not enough for it: those of two overlapping arrays may be on two ranks.
        """
        trains = frozenset(cascade.trains())
        frozen = Names(tuple(name for name in self.params if name not in trains))
        SGD(
            self.tree,
            lr=0.0,
            groups=[{"match": frozen, "frozen": True}],
            bfloat16=tuple(sorted(self.bits)),
        )

    def _divide(self, groups: Sequence[Group], cascade: Cascade) -> None:
        """Cut the parameters into shares, those that train and the others each on their own."""
        trains = cascade.trains()
        frozen = [name for name in self.params if name not in frozenset(trains)]
        whole = [name for name, array in self.params.items() if not _is_line(array)]
        for names in (trains, frozen):
            sizes = {name: getattr(self.params[name], "size", 0) for name in names}
            self.bounds |= cut(sizes, whole, self.transport.size)
        self.pieces = {name: self._piece(name, array) for name, array in self.params.items()}
        nonfinite = self.options["nonfinite"]
        self.updater.bind(self.pieces, self.rule.name, self._choices, nonfinite, self.bits)
        self._whole.configure(
            [{**native(resolve([values_of(groups[0])])), "frozen": True}], [0] * len(self.params)
        )
        self._memory = {n: _memory(array) for n, array in self.arrays(writeable=True).items()}

    def _piece(self, name: str, array: Any) -> Any:
        rank = self.transport.rank
        start, stop = self.bounds[name][rank : rank + 2]
        if not isinstance(array, np.ndarray):
            return array  # frozen
        if _is_line(array):
            return array.reshape(-1)[start:stop]
        return array if start < stop else np.empty(0, array.dtype)

    def check_current(self, names: Iterable[str]) -> None:
        """Refuse parameters that were replaced, resized or made read-only."""
        live = flatten(self.tree)
        for name in names:
            array: NDArray[Any] = self.params[name]
            if live.get(name) is not array:
                raise ValueError(
                    f"parameter {name!r} is no longer the array that the optimizer was made with; "
                    "assign into the array (params[...][:] = value)"
                )
            if _memory(array) != self._memory.get(name) or not array.flags.writeable:
                raise ValueError(
                    f"parameter {name!r} was resized, made read-only or otherwise changed; a "
                    "sharded optimizer needs the array as it was when the optimizer was made"
                )

    def arrays(self, *, writeable: bool) -> dict[str, NDArray[Any]]:
        """The parameters that are writeable, or read-only; frozen ones may be no arrays at all."""
        found = {name: a for name, a in self.params.items() if isinstance(a, np.ndarray)}
        return {name: a for name, a in found.items() if a.flags.writeable == writeable}

    def kinds(self, name: str, values: Callable[[], dict[str, Any]]) -> dict[str, Kind]:
        """As `Held.kinds`, of whole arrays, whatever this rank has of them."""
        self._values[name] = values
        parts = self._whole.parts(name, values())
        return {key: (np.dtype(dtype), shape) for key, dtype, shape in parts}

    def whole_kinds(self, name: str) -> dict[str, Kind]:
        """Dtypes and shapes of the state arrays of a whole parameter, as groups are now."""
        values = [values_of(self.groups[i]) for i in self.cascade.matching(name)]
        return self.kinds(name, lambda: native(resolve(values)))

    def piece_kinds(self, name: str) -> dict[str, Kind]:
        """Those of this rank's share, with the values of the last call for the whole."""
        return super().kinds(name, self._values[name])

    def fetched(self, states: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """As `Held.fetched`."""
        return states if self.receive is None else self.receive(states)

    def rebind(self, params: Any) -> NoReturn:  # noqa: ARG002 - refused
        """Refused."""
        raise ValueError(f"rebind {ANOTHER}")

    def extend(self, params: Any, groups: Any) -> NoReturn:  # noqa: ARG002 - refused
        """Refused."""
        raise ValueError(f"extend {ANOTHER}")

    def check_attached(self, made: str) -> None:
        """As `Held.check_attached`."""
        super().check_attached(made)
        if made == "Accumulator":
            raise ValueError(
                "an Accumulator of a sharded optimizer is not supported; add micro-batches to "
                "opt.sums(), whose bits do not depend on the number of ranks"
            )
        narrow = [name for name, array in self.trained().items() if array.itemsize == 2]
        if narrow:
            raise ValueError(
                f"an {made} of a sharded optimizer with narrow parameters such as {narrow[0]!r} is "
                "not supported: each rank has the last digits of its share only"
            )

    def check_alone(self, what: str) -> None:
        """As `Held.check_alone`."""
        raise ValueError(
            f"{what} would take this rank's share of the state for the whole; call the optimizer's "
            "own save, load, state_dict and load_state_dict, on every rank"
        )


def _is_line(array: Any) -> bool:
    """Whether an array lies in memory as one line in logical order, so that it can be cut."""
    return isinstance(array, np.ndarray) and bool(array.flags.c_contiguous)


def _memory(array: NDArray[Any]) -> Memory:
    return array.ctypes.data, array.shape, array.strides, array.dtype

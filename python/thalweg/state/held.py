"""`Held`: the data of an optimizer, and the methods that change it."""

from __future__ import annotations

import operator
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg import _core
from thalweg.errors import typed
from thalweg.groups.cascade import Cascade
from thalweg.groups.group import Group, become, retire, set_values, values_of
from thalweg.groups.matching import Match, Matching, Names
from thalweg.groups.specified import extended, specified
from thalweg.groups.values import check_value, resolve
from thalweg.mapped.state_dir import Asked, StateDir
from thalweg.state.live import States

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from thalweg.groups.rule import Rule
    from thalweg.groups.specified import Groups
    from thalweg.mapped.arrays import Kind
    from thalweg.state.attached import Attached

__all__ = ["Held", "held_by"]


class Held:
    """Data of an optimizer: parameters, groups, options and the native updater.

    Users see `Optimizer`; all other modules of the package work on this.
    """

    rule: Rule
    options: dict[str, Any]
    tree: Any
    """The parameters as given."""
    params: dict[str, Any]
    """The parameters by name."""
    groups: tuple[Group, ...]
    cascade: Cascade
    bfloat16: Match | Names
    """Selects parameters whose arrays of uint16 hold the bits of bfloat16 numbers."""
    bits: frozenset[str]
    """Names of these parameters."""
    attached: dict[str, Attached]
    files: StateDir | None
    """Directory of the memory-mapped parameters and state, if any."""
    revision: int
    """Increases whenever the set of parameters that train may have changed."""

    def __init__(self, optimizer: Any, updater: _core.Updater) -> None:
        self.optimizer = optimizer
        """The user's `Optimizer`, kept alive, copied and pickled with each reference to `Held`."""
        self.updater = updater
        self.state = States(self)

    if not TYPE_CHECKING:  # with `__getattr__`, a type checker accepts every name

        def __getattr__(self, name: str) -> Any:
            # Reached before `start`, in a subclass that does not call the constructor: the message
            # names the user's class.
            raise AttributeError(
                f"{type(self.optimizer).__name__!r} object has no attribute '_{name}'"
            )

    def start(
        self,
        rule: Rule,
        params: Any,
        groups: Groups,
        values: dict[str, Any],
        *,
        options: dict[str, Any],
        bfloat16: Match | Names = (),
        trained: Mapping[str, int] = MappingProxyType({}),
        state_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        """Store parameters, groups and options.

        `bfloat16` selects parameters whose arrays of uint16 hold the bits of bfloat16. `trained`
        maps parameters to a number of state arrays to make, even if they are frozen.
        """
        self.rule = rule
        values = {key: check_value(rule, key, value) for key, value in values.items()}
        choices = rule.chosen(options)
        if not isinstance(options["nonfinite"], str):
            raise TypeError(f"nonfinite must be a string, got {typed(options['nonfinite'])}")
        self.bfloat16 = bfloat16
        self.bits = self._declared(_core.flatten(params), "bfloat16") if bfloat16 else frozenset()
        self.options = options
        leaves = self._bind(params, choices)
        self.tree = params
        self.params = leaves
        self.groups = ()
        self.attached = {}
        self.revision = 0
        self.files = None
        made = [Group(self, "*", leaves, values), *specified(self, groups, Matching(leaves))]
        if state_dir is None:
            self.adopt(made, trained)
            return
        files = StateDir(state_dir, rule.name, options, leaves)
        try:
            self.updater.keep(partial(self._make, files))
            self.adopt(made, files.kept())
            files.begin(self)
        except BaseException:
            files.let_go()
            raise
        self.files = files

    def _bind(self, params: Any, choices: dict[str, bool]) -> dict[str, Any]:
        """Bind the native object to the parameters; returns them by name."""
        nonfinite = self.options["nonfinite"]
        return dict(self.updater.bind(params, self.rule.name, choices, nonfinite, self.bits))

    def _declared(self, leaves: Mapping[str, Any], what: str) -> frozenset[str]:
        """Names of the arrays of uint16 that the user has declared to be bfloat16.

        Raises
        ------
        TypeError
            If another array is selected.
        """
        names = frozenset(Matching(leaves).select(self.bfloat16, what))
        for name in sorted(names):
            dtype = getattr(leaves[name], "dtype", None)
            if dtype != np.uint16:
                raise TypeError(
                    f"bfloat16 must select arrays of uint16, which hold the bits of bfloat16 "
                    f"numbers; {name!r} has dtype {dtype}"
                )
        return names

    def _make(self, files: StateDir, asked: Iterable[Asked]) -> list[list[NDArray[Any]]]:
        """Make state arrays that are files.

        A bound method, so that the updater, which calls it, keeps this object and with it the lock
        of the directory: a block of `EMA.swapped` may refer to the updater alone.
        """
        return files.make(asked)

    def adopt(
        self,
        groups: Sequence[Group],
        trained: Mapping[str, int] = MappingProxyType({}),
        restored: Any = None,
        attached: Sequence[Any] = (),
    ) -> None:
        """Replace the groups, or change nothing on error; `Group` objects of users stay valid.

        The same native call loads counters and state: `restored` for the optimizer, `attached` for
        its attached objects.
        """
        cascade = Cascade(groups, self.params)
        self.updater.configure(
            cascade.values(), cascade.assignment(), dict(trained), restored, attached
        )
        self._replace(groups, cascade)

    def _replace(self, groups: Sequence[Group], cascade: Cascade) -> None:
        held = self.groups
        for old, new in zip(held, groups, strict=False):
            become(old, new)
        for old in held[len(groups) :]:
            retire(old)
        self.groups = (*held[: len(groups)], *groups[len(held) :])
        cascade.groups = self.groups
        self.cascade = cascade
        self._changed()

    def _changed(self) -> None:
        """Tell files and attached objects that other parameters may train now."""
        self.revision += 1
        if self.files is not None:
            self.files.note(self)
        for attached in self.attached.values():
            attached.follow()

    def edit(self, group: Group, values: dict[str, Any]) -> None:
        """Replace the values of a group, or change nothing on error."""
        self.updater.adjust(self.cascade.edited(group, values))
        before = values_of(group)
        set_values(group, values)
        if before.get("frozen") != values.get("frozen"):
            self._changed()

    def trained(self) -> dict[str, NDArray[Any]]:
        """The parameters that train, by name."""
        return {name: self.params[name] for name in self.cascade.trains()}

    def resolve(self, name: str) -> dict[str, Any]:
        """See `Optimizer.resolve`."""
        matching = self.cascade.matching(name)
        resolved = resolve([values_of(self.groups[i]) for i in matching])
        scales = resolved["lr_scale"]
        if not any(callable(scale) for scale in scales):
            resolved["lr_scale"] = float(np.prod(scales))
        return {**resolved, "groups": matching}

    def rebind(self, params: Any) -> None:
        """See `Optimizer.rebind`."""
        if self.files is not None:
            leaves = _core.flatten(params)
            self.files.check({name: leaves[name] for name in self.trained() if name in leaves})
        self.params = dict(self.updater.rebind(params))
        self.tree = params
        if self.files is not None:
            self.files.note(self)

    def extend(self, params: Any, groups: Groups) -> None:
        """See `Optimizer.extend`."""
        leaves = _core.flatten(params)
        new = {name: leaf for name, leaf in leaves.items() if name not in self.params}
        added = Matching(new, known=leaves)
        made = [
            *extended(self, self.groups, added, Matching(leaves)),
            *specified(self, groups, added),
        ]
        cascade = Cascade(made, leaves)
        bits = self.bits
        if self.bfloat16 and not isinstance(self.bfloat16, Names):
            bits |= frozenset(added.fitting(self.bfloat16))
        found = self.updater.extend(params, cascade.values(), cascade.assignment(), bits)
        self.params, self.tree, self.bits = dict(found), params, bits
        self._replace(made, cascade)
        if self.files is not None:
            self.files.extended(self)

    def kinds(self, name: str, values: Callable[[], dict[str, Any]]) -> dict[str, Kind]:
        """Dtypes and shapes of a parameter's state arrays, or those that `values` would give it."""
        arrays = self.updater.state(name)
        if arrays is not None:
            return {key: (array.dtype, array.shape) for key, array in arrays.items()}
        parts = self.updater.parts(name, values())
        return {key: (np.dtype(dtype), shape) for key, dtype, shape in parts}

    def fetched(self, states: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """State to load, with arrays that the native object can read."""
        return states

    def check_attached(self, made: str) -> None:
        """Refuse an accumulator or average of this optimizer, of the class `made`."""
        self.updater.check_ready()
        if self.files is not None:
            raise ValueError(
                f"an {made} of an optimizer with state_dir is not supported: it is in memory, "
                "and lost when training continues from the files; make it of the parameters "
                f"(thalweg.{made}(params, ...)) and save it separately"
            )

    def check_alone(self, what: str) -> None:
        """Refuse `what`, which one process does, if others share the state."""

    def flush(self) -> None:
        """See `Optimizer.flush`."""
        if self.files is not None:
            self.updater.alone(self.files.flush)

    def close(self) -> None:
        """See `Optimizer.close`."""
        if self.files is not None:
            self.flush()
            self.updater.keep_record()
            self.files.let_go()

    def loaded(self, path: str | os.PathLike[str]) -> None:
        """Record that all parameters and state were loaded from the checkpoint at `path`."""
        if self.files is not None:
            self.files.note_checkpoint(path)
            self.updater.mend()
            self.files.mended()

    def __reduce__(self) -> tuple[Any, ...]:
        return held_by, (self.optimizer,)


held_by: Callable[[_core.Optimizer], Held] = operator.attrgetter("_held")
"""The `Held` of a user's optimizer; the only access to it.

The attribute is private because subclasses may define any public name.
"""

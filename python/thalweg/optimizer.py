"""What all optimizers have in common: groups, state, pickling. The step is native (`_core`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from thalweg import _core
from thalweg.attributes import Fixed
from thalweg.checkpoint import files
from thalweg.groups import spellings
from thalweg.groups.group import (
    Cascade,
    Group,
    Number,
    Rule,
    check_value,
    resolve,
)
from thalweg.groups.matching import Match, Matching
from thalweg.groups.ready import ReadyGroup
from thalweg.mapped.state_dir import StateDir
from thalweg.state import loading
from thalweg.state import state_dict as state_dicts
from thalweg.state.live import States

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from numpy.typing import NDArray

    from thalweg.averages.mirror import Mirror

__all__ = ["Optimizer"]

NonFinite = Literal["raise", "skip", "ignore"]
Groups = Sequence[Mapping[str, Any] | ReadyGroup]


class Optimizer(Fixed, _core.Optimizer):
    """What the optimizers have in common. Make one of `AdamW`, `Adam`, `SGDW` and `SGD`.

    Parameters and state keep their identity: they are updated in place, for ever the same arrays.
    Names that nothing reads cannot be set; a subclass may have attributes of its own.
    """

    rule: ClassVar[Rule]
    """Name and hyperparameters of the update rule."""

    _tree: Any
    _params: dict[str, Any]
    _groups: tuple[Group, ...]
    _cascade: Cascade
    _options: dict[str, Any]
    _attached: dict[str, Mirror]
    _files: StateDir | None
    """Where parameters and state are files."""
    _states: States
    _revision: int
    """Changes whenever other parameters may train."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        raise TypeError("make one of AdamW, Adam, SGDW and SGD; Optimizer has no rule of its own")

    def _start(
        self,
        params: Any,
        groups: Groups,
        values: dict[str, Any],
        options: dict[str, Any],
        trained: Mapping[str, int] = MappingProxyType({}),
        *,
        state_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        """Take in parameters, groups and options; the constructors end here.

        `trained` parameters get so many arrays of state, frozen or not.
        """
        values = {key: check_value(self.rule, key, value) for key, value in values.items()}
        leaves = dict(self._updater.bind(params, **_native_options(self.rule, options)))
        self._options = options
        self._tree = params
        self._params = leaves
        self._groups = ()
        self._attached = {}
        self._states = States(self)
        self._revision = 0
        self._files = None
        made = [Group(self, "*", leaves, values), *self._specified(groups, Matching(leaves))]
        if state_dir is None:
            self._adopt(made, trained)
            return
        files = StateDir(state_dir, self.rule.name, options, leaves)
        try:
            self._updater.keep(files.make)
            self._adopt(made, files.kept())
            files.begin(self)
        except BaseException:
            files.let_go()
            raise
        self._files = files

    def _specified(self, groups: Groups, leaves: Matching) -> list[Group]:
        """The groups that are asked for, of these leaves."""
        if isinstance(groups, Mapping | str) or not isinstance(groups, Sequence):
            raise TypeError(f"groups must be a sequence of mappings, got {groups!r}")
        made: list[Group] = []
        for position, given in enumerate(groups):
            if isinstance(given, Mapping):
                specifications = [dict(given)]
            elif hasattr(given, "expand"):
                specifications = given.expand(leaves.params, self.rule.decay)
            else:
                raise TypeError(f"groups[{position}] must be a mapping, got {given!r}")
            made += [self._group(spec, leaves, f"groups[{position}]") for spec in specifications]
        return made

    def _group(self, specification: dict[str, Any], leaves: Matching, what: str) -> Group:
        if "match" not in specification:
            keys = ", ".join(map(str, specification)) or "no key"
            raise TypeError(f"{what} needs 'match' (a glob such as '*.b'), it has {keys}")
        match = specification.pop("match")
        values = {key: check_value(self.rule, key, v) for key, v in specification.items()}
        return Group(self, match, leaves.select(match, what), values)

    def _adopt(
        self,
        groups: Sequence[Group],
        trained: Mapping[str, int] = MappingProxyType({}),
        restored: Any = None,
        attached: Sequence[Any] = (),
    ) -> None:
        """Make these the groups, or change nothing; groups that users hold live on.

        State and counters that are `restored` are taken over in the same native call, and what is
        for `attached` objects too.
        """
        cascade = Cascade(groups, self._params)
        self._updater.configure(
            cascade.values(), cascade.assignment(), dict(trained), restored, attached
        )
        self._replace(groups, cascade)

    def _replace(self, groups: Sequence[Group], cascade: Cascade) -> None:
        held = self._groups
        for old, new in zip(held, groups, strict=False):
            old._become(new)
        for old in held[len(groups) :]:
            old._retire()
        self._groups = (*held[: len(groups)], *groups[len(held) :])
        cascade.groups = self._groups
        self._cascade = cascade
        self._changed()

    def _changed(self) -> None:
        """Other parameters may train now: what mirrors them takes them in."""
        self._revision += 1
        if self._files is not None:
            self._files.note(self)
        for mirror in self._attached.values():
            mirror._follow()

    def _edit(self, group: Group, values: dict[str, Any]) -> None:
        """Give a group other values, or change nothing."""
        self._updater.adjust(self._cascade.edited(group, values))
        before = group._values
        object.__setattr__(group, "_values", values)
        if before.get("frozen") != values.get("frozen"):
            self._changed()

    def _trained(self) -> dict[str, NDArray[Any]]:
        """The parameters that train."""
        return {name: self._params[name] for name in self._cascade.trains()}

    @property
    def groups(self) -> tuple[Group, ...]:
        """Parameter groups; the first holds the constructor's values and matches everything."""
        return self._groups

    @property
    def lr(self) -> Any:
        """Learning rate of group 0, and of every group without an ``lr`` of its own.

        A number, or a callable of the step.
        """
        return self._groups[0].lr

    @lr.setter
    def lr(self, value: Number) -> None:
        self._groups[0].lr = value

    @property
    def params(self) -> Mapping[str, NDArray[Any]]:
        """Live parameter arrays by name, in the order of the tree; a read-only mapping."""
        return MappingProxyType(self._params)

    @property
    def state(self) -> Mapping[str, Mapping[str, Any]]:
        """Live state by parameter: ``opt.state["w"]["exp_avg"]``, and ``["step"]``, an int.

        The arrays are ``exp_avg``, ``exp_avg_sq`` and ``max_exp_avg_sq`` (Adam), or
        ``momentum_buffer`` (SGD with momentum). A parameter that was never trained has none.
        """
        return self._states

    def resolve(self, name: str) -> dict[str, Any]:
        """What applies to a parameter, all groups considered.

        Returns
        -------
        dict
            Every hyperparameter, ``lr_scale`` (the product, or the tuple of them where one is a
            callable), ``frozen``, and ``groups``, the positions of the groups that match.

        Raises
        ------
        KeyError
            If there is no such parameter.
        """
        matching = self._cascade.matching(name)
        resolved = resolve([self._groups[i]._values for i in matching])
        scales = resolved["lr_scale"]
        if not any(callable(scale) for scale in scales):
            resolved["lr_scale"] = float(np.prod(scales))
        return {**resolved, "groups": matching}

    def reset(self, match: Match | None = None) -> None:
        """Forget the history: state zero, parameters as they are.

        Parameters
        ----------
        match : str, sequence of str, callable or None
            Which parameters, as in a group. None means all, and sets `step_count`, `skip_count` and
            `consecutive_skips` to zero too.

        Raises
        ------
        ValueError
            If `match` selects nothing, or state cannot be written; nothing is changed.
        BusyError
            If the optimizer is in use, as in every method that reads or writes its state.
        """
        self._updater.reset(
            None if match is None else Matching(self._params).select(match, "reset")
        )

    def rebind(self, params: Any) -> None:
        """Adopt other arrays under the same names, and keep the state.

        For a program that replaced arrays instead of assigning into them.

        Raises
        ------
        ValueError
            If names, shapes or dtypes differ; nothing is changed.
        """
        if self._files is not None:
            leaves = _core.flatten(params)
            self._files.check({name: leaves[name] for name in self._trained() if name in leaves})
        self._params = dict(self._updater.rebind(params))
        self._tree = params
        if self._files is not None:
            self._files.note(self)

    def extend(self, params: Any, groups: Groups = ()) -> None:
        """Adopt a tree that holds more parameters, in mid-run; the others keep their state.

        Parameters
        ----------
        params : tree of ndarray
            The parameters there were, under the same names, and those to add: mostly the container
            that the optimizer was given, after something was put into it.
        groups : sequence of mappings
            Groups for the added parameters alone; they come after those there are. Groups that
            match by a glob or a callable match added parameters too; ready groups, and groups that
            were loaded or unpickled, match what they matched.

        Raises
        ------
        ValueError, TypeError
            As the constructor, and if a parameter is missing; nothing is changed then.

        Examples
        --------
        >>> import numpy as np, thalweg
        >>> params = {"body": np.ones(3)}
        >>> opt = thalweg.AdamW(params, lr=0.1)
        >>> report = opt.step({"body": np.ones(3)})
        >>> params["head"] = np.zeros(2)
        >>> opt.extend(params, groups=[{"match": "head", "lr_scale": 10.0}])
        >>> report = opt.step({"body": np.ones(3), "head": np.ones(2)})
        >>> opt.state["body"]["step"], opt.state["head"]["step"], opt.step_count
        (2, 1, 2)
        """
        leaves = _core.flatten(params)
        everything = Matching(leaves)
        new = {name: leaf for name, leaf in leaves.items() if name not in self._params}
        added = Matching(new, known=leaves)
        base, *others = self._groups
        kept = [
            Group(self, "*", leaves, base._values),
            *(g._over(added, everything) for g in others),
        ]
        made = [*kept, *self._specified(groups, added)]
        cascade = Cascade(made, leaves)
        found = self._updater.extend(params, cascade.values(), cascade.assignment())
        self._params, self._tree = dict(found), params
        self._replace(made, cascade)
        if self._files is not None:
            self._files.extended(self)

    def state_dict(self, *, copy: bool = True) -> dict[str, Any]:
        """Everything but the parameters, as plain dicts, lists, numbers and arrays.

        Parameters
        ----------
        copy : bool, default True
            False gives the live state arrays instead of copies.

        Returns
        -------
        dict
            ``format``, ``rule``, ``options``, ``step_count``, ``skips``, ``groups``, ``state`` and
            ``attached``, the accumulators and averages that were made for this optimizer. Schedules
            of `thalweg.schedule` are recorded as JSON, other callables by name, matchers as the
            names they matched; parameters that never trained are left out.
        """
        return state_dicts.state_dict(self, copy=copy)

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        *,
        hyperparameters: Literal["saved", "current"] = "saved",
        strict: bool = True,
    ) -> loading.LoadReport:
        """Take over a state dict. Everything is checked before anything is changed.

        Parameters
        ----------
        state_dict : mapping
            As `state_dict` returns it. Arrays may be of other libraries, read as ``np.asarray``
            gives them, and whole numbers NumPy's.
        hyperparameters : {"saved", "current"}
            Whose hyperparameters and groups count from now on. With ``"saved"`` a warning lists
            what changed; callables that were saved by name alone stay this optimizer's.
        strict : bool, default True
            False loads what fits and reports the rest.

        Returns
        -------
        LoadReport
            What was loaded, missing, unexpected, mismatched and changed.

        Raises
        ------
        ValueError
            If it does not fit, listing every difference; nothing is loaded then.
        """
        return loading.load_state_dict(
            self, state_dict, hyperparameters=hyperparameters, strict=strict
        )

    def save(self, path: files.Path, extra: Any = None, *, params: bool = True) -> None:
        """Write parameters, state and hyperparameters to one file.

        At every instant the path holds the old file or the new one, whole: it is written beside
        it, under a lock, flushed to disk, and renamed. The format is safetensors, which other tools
        can read; see *Checkpoints* in the documentation.

        Parameters
        ----------
        path : str or path
            The file, best with the ending ``.safetensors``. One that is there is replaced.
        extra : tree, optional
            What else belongs to the run: None, bools, ints, floats, strings, NumPy scalars and
            arrays in lists, tuples and dicts whose keys are strings or integers, such as
            ``{"epoch": 3, "rng": rng.bit_generator.state}``. It comes back as it was; an
            ``OrderedDict`` or ``defaultdict`` as a dict, an ``np.str_`` as a string.
        params : bool, default True
            False leaves the parameters out.

        Raises
        ------
        TypeError
            If `extra` has anything that would not come back as it was; nothing is written.
        ValueError
            If a parameter is no longer the array that its container holds; nothing is written.
        OSError
            If it cannot be written, with what failed; what was at the path is still there.
        BusyError
            If another thread or process is writing this file, or the optimizer is in use.

        Notes
        -----
        Saved are parameters that train or have trained, their state, step counts, groups,
        schedules (other callables by name), and the accumulators and averages that were made for
        this optimizer. Nothing is copied: other threads that step it meanwhile get a `BusyError`.

        Examples
        --------
        >>> import numpy as np, os, tempfile, thalweg
        >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
        >>> opt = thalweg.AdamW({"w": np.ones(2)}, lr=0.1)
        >>> report = opt.step({"w": np.ones(2)})
        >>> opt.save(path, extra={"epoch": 1})
        >>> again = thalweg.AdamW({"w": np.zeros(2)}, lr=0.1)
        >>> again.load(path).extra
        {'epoch': 1}
        >>> again.params["w"], again.step_count
        (array([0.899, 0.899]), 1)
        """
        files.save(self, path, extra, params=params)

    def load(
        self,
        path: files.Path,
        *,
        hyperparameters: Literal["saved", "current"] = "saved",
        strict: bool = True,
        params: bool = True,
    ) -> loading.LoadReport:
        """Take over what `save` wrote, parameters in place. All is checked before anything changes.

        Parameters
        ----------
        path : str or path
            The file.
        hyperparameters : {"saved", "current"}
            Whose hyperparameters and groups count from now on, as in `load_state_dict`.
        strict : bool, default True
            False loads what fits and reports the rest.
        params : bool, default True
            False leaves the parameters as they are; a file without them needs it.

        Returns
        -------
        LoadReport
            What was loaded, missing, unexpected, mismatched and changed; `extra` as it was saved.

        Raises
        ------
        ValueError
            If the file is damaged or does not fit, listing every difference; nothing is loaded.
        OSError
            If it cannot be read.

        Notes
        -----
        The file is read twice, once to check it and once into the arrays, in pieces, so it takes no
        memory that grows with the model.
        """
        return files.load(
            self,
            files.Opened(path),
            hyperparameters=hyperparameters,
            strict=strict,
            params=params,
        )

    @property
    def state_dir(self) -> Path | None:
        """The directory that parameters and state are files in, if they are."""
        return None if self._files is None else self._files.path

    def flush(self) -> None:
        """Put parameters and state that are files on the disk, so that a power failure spares them.

        Done by `close` and at the end of the interpreter too. Without `state_dir` it does nothing.

        Raises
        ------
        BusyError
            Inside `open_step` and `EMA.swapped`.
        """
        if self._files is not None:
            self._updater.alone(self._files.flush)

    def close(self) -> None:
        """Flush, and let another optimizer have the directory; this one can no longer step.

        Done at the end of the interpreter too, and when nobody refers to the optimizer any more.
        Without `state_dir` it does nothing.

        Raises
        ------
        BusyError
            Inside `open_step` and `EMA.swapped`.
        """
        if self._files is not None:
            self.flush()
            self._updater.keep_record()
            self._files.let_go()

    def _loaded(self, path: str | os.PathLike[str]) -> None:
        """All parameters and state were loaded from a checkpoint there."""
        if self._files is not None:
            self._files.note_checkpoint(path)
            self._updater.mend()
            self._files.mended()

    @classmethod
    def _ways(cls) -> Mapping[str, str]:
        return spellings.ways(cls.rule)

    @classmethod
    def _hints(cls) -> Mapping[str, str]:
        return spellings.hints()

    def __repr__(self) -> str:
        trains = self._trained().values()
        size = sum(array.size for array in trains)
        values = ", ".join(f"{key}={self._groups[0]._values[key]!r}" for key in self.rule.keys)
        frozen = len(self._params) - len(trains)
        rest = f", {frozen} frozen" if frozen else ""
        return (
            f"{self.rule.name}({values}; {len(trains)} arrays, {size:,} parameters train{rest}, "
            f"step {self.step_count})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _new, (type(self),), state_dicts.pickled(self)

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        state_dicts.unpickle(self, pickled)


def _new(cls: type[Optimizer]) -> Optimizer:
    return cls.__new__(cls)


def _native_options(rule: Rule, options: Mapping[str, Any]) -> dict[str, Any]:
    for key in ("amsgrad", "nesterov", "independent", "maximize"):
        if not isinstance(options[key], bool):
            raise TypeError(f"{key} must be True or False, got {options[key]!r}")
    if not isinstance(options["nonfinite"], str):
        raise TypeError(f"nonfinite must be a string, got {options['nonfinite']!r}")
    return {"adam": "betas" in rule.keys, **options}

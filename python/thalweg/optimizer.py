"""What all optimizers have in common, as users see it. The step is native (`_core`)."""

from __future__ import annotations

from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from thalweg import _core
from thalweg.attributes import Fixed
from thalweg.checkpoint import files
from thalweg.groups import spellings
from thalweg.groups.group import values_of
from thalweg.groups.matching import Matching
from thalweg.state.held import Held
from thalweg.state.loading import load_state_dict
from thalweg.state.pickled import pickled, unpickle
from thalweg.state.state_dict import state_dict

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from thalweg.groups.group import Group
    from thalweg.groups.matching import Match
    from thalweg.groups.rule import Rule
    from thalweg.groups.specified import Groups
    from thalweg.numbers import Number
    from thalweg.state.report import LoadReport

__all__ = ["Optimizer"]


class Optimizer(Fixed, _core.Optimizer):
    """What the optimizers have in common. Make one of `AdamW`, `Adam`, `SGDW` and `SGD`.

    Parameters and state keep their identity: they are updated in place, for ever the same arrays.
    Names that nothing reads cannot be set; a subclass may have attributes of its own.
    """

    rule: ClassVar[Rule]
    """Name and hyperparameters of the update rule."""

    @cached_property
    def _held(self) -> Held:
        """The parameters, groups and options, and what works on them."""
        return Held(self, self._updater)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        raise TypeError("make one of AdamW, Adam, SGDW and SGD; Optimizer has no rule of its own")

    def _start(
        self,
        params: Any,
        groups: Groups,
        values: dict[str, Any],
        options: dict[str, Any],
        state_dir: str | os.PathLike[str] | None,
    ) -> None:
        """Take in parameters, groups and options; the constructors end here."""
        self._held.start(self.rule, params, groups, values, options=options, state_dir=state_dir)

    @property
    def groups(self) -> tuple[Group, ...]:
        """Parameter groups; the first holds the constructor's values and matches everything."""
        return self._held.groups

    @property
    def lr(self) -> Any:
        """Learning rate of group 0, and of every group without an ``lr`` of its own.

        A number, or a callable of the step.
        """
        return self._held.groups[0].lr

    @lr.setter
    def lr(self, value: Number) -> None:
        self._held.groups[0].lr = value

    @property
    def params(self) -> Mapping[str, NDArray[Any]]:
        """Live parameter arrays by name, in the order of the tree; a read-only mapping."""
        return MappingProxyType(self._held.params)

    @property
    def state(self) -> Mapping[str, Mapping[str, Any]]:
        """Live state by parameter: ``opt.state["w"]["exp_avg"]``, and ``["step"]``, an int.

        The arrays are ``exp_avg``, ``exp_avg_sq`` and ``max_exp_avg_sq`` (Adam), or
        ``momentum_buffer`` (SGD with momentum). A parameter that was never trained has none.
        """
        return self._held.state

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
        return self._held.resolve(name)

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
        names = None if match is None else Matching(self._held.params).select(match, "reset")
        self._held.updater.reset(names)

    def rebind(self, params: Any) -> None:
        """Adopt other arrays under the same names, and keep the state.

        For a program that replaced arrays instead of assigning into them.

        Raises
        ------
        ValueError
            If names, shapes or dtypes differ; nothing is changed.
        """
        self._held.rebind(params)

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
        self._held.extend(params, groups)

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
        return state_dict(self._held, copy=copy)

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        *,
        hyperparameters: Literal["saved", "current"] = "saved",
        strict: bool = True,
    ) -> LoadReport:
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
        return load_state_dict(
            self._held, state_dict, hyperparameters=hyperparameters, strict=strict
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
        files.save(self._held, path, extra, params=params)

    def load(
        self,
        path: files.Path,
        *,
        hyperparameters: Literal["saved", "current"] = "saved",
        strict: bool = True,
        params: bool = True,
    ) -> LoadReport:
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
            self._held,
            files.Opened(path),
            hyperparameters=hyperparameters,
            strict=strict,
            params=params,
        )

    @property
    def state_dir(self) -> Path | None:
        """The directory that parameters and state are files in, if they are."""
        return None if self._held.files is None else self._held.files.path

    def flush(self) -> None:
        """Put parameters and state that are files on the disk, so that a power failure spares them.

        Done by `close` and at the end of the interpreter too. Without `state_dir` it does nothing.

        Raises
        ------
        BusyError
            Inside `open_step` and `EMA.swapped`.
        """
        self._held.flush()

    def close(self) -> None:
        """Flush, and let another optimizer have the directory; this one can no longer step.

        Done at the end of the interpreter too, and when nobody refers to the optimizer any more.
        Without `state_dir` it does nothing.

        Raises
        ------
        BusyError
            Inside `open_step` and `EMA.swapped`.
        """
        self._held.close()

    @classmethod
    def _ways(cls) -> Mapping[str, str]:
        return spellings.ways(cls.rule)

    @classmethod
    def _hints(cls) -> Mapping[str, str]:
        return spellings.hints()

    def __repr__(self) -> str:
        trains = self._held.trained().values()
        size = sum(array.size for array in trains)
        base = values_of(self._held.groups[0])
        values = ", ".join(f"{key}={base[key]!r}" for key in self.rule.keys)
        frozen = len(self._held.params) - len(trains)
        rest = f", {frozen} frozen" if frozen else ""
        return (
            f"{self.rule.name}({values}; {len(trains)} arrays, {size:,} parameters train{rest}, "
            f"step {self.step_count})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        own = {key: value for key, value in self.__dict__.items() if key != "_held"}
        return _new, (type(self),), {**pickled(self._held), "attributes": own}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        unpickle(self._held, self.rule, saved)
        self.__dict__.update(saved["attributes"])


def _new(cls: type[Optimizer]) -> Optimizer:
    return cls.__new__(cls)

"""The base class of the optimizers, with their documentation. The step is native (`_core`)."""

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
from thalweg.state.fitting import arrays_of
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
    from thalweg.numbers import Number, RowsMeaning, StateFormat
    from thalweg.state.report import LoadReport

__all__ = ["Optimizer"]


class Optimizer(Fixed, _core.Optimizer):
    """Base class of all optimizers, without an update rule.

    Parameters and state keep their identity: every update writes into the same arrays. Attributes
    that nothing reads cannot be set; a subclass may add attributes.
    """

    rule: ClassVar[Rule]
    """Name and hyperparameters of the update rule."""

    @cached_property
    def _held(self) -> Held:
        """Parameters, groups and options, with the methods that change them."""
        return Held(self, self._updater)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        raise TypeError(
            "Optimizer is a base class without a rule; make one of its subclasses, such as AdamW"
        )

    def _start(
        self,
        params: Any,
        groups: Groups,
        values: dict[str, Any],
        options: dict[str, Any],
        *,
        state: StateFormat = "full",
        rows: RowsMeaning | None = None,
        row_steps: bool = False,
        bfloat16: Match = (),
        state_dir: str | os.PathLike[str] | None,
    ) -> None:
        """Store parameters, groups and options; each constructor ends with this call."""
        if state != "full":
            values["state"] = state
        if rows is not None:
            values["rows"] = rows
        if row_steps is not False:
            values["row_steps"] = row_steps
        self._held.start(
            self.rule,
            params,
            groups,
            values,
            options=options,
            bfloat16=bfloat16,
            state_dir=state_dir,
        )

    @property
    def groups(self) -> tuple[Group, ...]:
        """Parameter groups; the first holds the constructor's values and matches everything."""
        return self._held.groups

    @property
    def lr(self) -> Any:
        """Learning rate of group 0, and of every group that sets no ``lr``.

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

        The arrays are ``exp_avg``, ``exp_avg_sq`` and ``max_exp_avg_sq`` (Adam and its kin),
        ``exp_avg_var`` in place of ``exp_avg_sq`` (AdaBelief), ``z``, ``exp_avg_sq`` and
        ``history`` (`ScheduleFreeAdamW`), ``exp_avg`` (Lion), ``square_avg``, ``grad_avg`` and
        ``momentum_buffer`` (RMSprop), ``sum`` (Adagrad), or ``momentum_buffer`` (SGD with
        momentum). A parameter that never trained has no entry. A smaller ``state`` has arrays of
        uint16, the bits of bfloat16, and of uint8, with exponents in an array with the ending
        ``_base``; `thalweg.compact.decode` gives them as float32. With ``row_steps=True``,
        ``row_steps`` has a number of updates for each row, as int64.
        """
        return self._held.state

    def resolve(self, name: str) -> dict[str, Any]:
        """Settings that apply to a parameter, all groups considered.

        Returns
        -------
        dict
            Every hyperparameter; ``lr_scale``, the product over the groups, or the tuple of factors
            if one is a callable; ``frozen``; ``groups``, the positions of the groups that match.

        Raises
        ------
        KeyError
            If there is no such parameter.
        """
        return self._held.resolve(name)

    def reset(self, match: Match | None = None) -> None:
        """Set state and step counts to zero; parameters stay unchanged.

        Float16 and bfloat16 parameters lose what they lack of a float32, which is in their state.

        Parameters
        ----------
        match : str, sequence of str, callable or None
            Selects parameters, as in a group. None selects all, and also sets `step_count`,
            `skip_count` and `consecutive_skips` to zero.

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

        Use it after replacing arrays of the tree instead of assigning into them. A float16 or
        bfloat16 parameter in another array is taken as it is: what the earlier one lacked is zero.

        Raises
        ------
        ValueError
            If names, shapes or dtypes differ; nothing is changed.
        """
        self._held.rebind(params)

    def extend(self, params: Any, groups: Groups = ()) -> None:
        """Adopt a tree with additional parameters during a run; the others keep their state.

        Parameters
        ----------
        params : tree of ndarray
            The present parameters, under the same names, and those to add; usually the container
            that the constructor took, after a program added arrays to it.
        groups : sequence of mappings
            Groups for the added parameters alone; they follow the present groups. Present groups
            that match by a glob or a callable match added parameters too; ready groups, and groups
            that were loaded or unpickled, keep the parameters they have.

        Raises
        ------
        ValueError, TypeError
            As the constructor, and if a parameter is missing; nothing is changed.

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
        """Everything except the parameters, as plain dicts, lists, numbers and arrays.

        Parameters
        ----------
        copy : bool, default True
            False returns the live state arrays instead of copies.

        Returns
        -------
        dict
            ``format``, ``rule``, ``options``, ``step_count``, ``skips``, ``groups``, ``state`` and
            ``attached``, the accumulators and averages that were made for this optimizer. Schedules
            of `thalweg.schedule` are recorded as JSON, other callables by name, and matches as the
            names that they selected. ``state`` omits parameters that never trained.
        """
        return state_dict(self._held, copy=copy)

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        *,
        hyperparameters: Literal["saved", "current"] = "saved",
        strict: bool = True,
        convert: bool = False,
    ) -> LoadReport:
        """Load a state dict. Everything is checked before the first change.

        Parameters
        ----------
        state_dict : mapping
            A result of `state_dict`. Arrays of other libraries are read by ``np.asarray``; whole
            numbers may be NumPy scalars.
        hyperparameters : {"saved", "current"}, default "saved"
            Hyperparameters and groups to use from now on. With ``"saved"`` a warning lists the
            changes; where a callable was saved by name, this optimizer's callable stays.
        strict : bool, default True
            False loads the entries that fit and reports the others.
        convert : bool, default False
            Load state of another format (the argument ``state`` of the constructor): it is decoded
            exactly, and encoded once, to nearest. The formats here stay.

        Returns
        -------
        LoadReport
            Step count, and names that are missing, unexpected, mismatched or changed.

        Raises
        ------
        ValueError
            If it does not fit, with a list of all differences; nothing is loaded.
        """
        return load_state_dict(
            self._held, state_dict, hyperparameters=hyperparameters, strict=strict, convert=convert
        )

    def save(self, path: files.Path, extra: Any = None, *, params: bool = True) -> None:
        """Write parameters, state and hyperparameters to one file.

        At every instant the path holds the whole old file or the whole new one: the new file is
        written beside it under a lock, flushed to disk and renamed. The format is safetensors,
        which other tools can read; see *Checkpoints* in the documentation.

        Parameters
        ----------
        path : str or path
            The file, preferably with the extension ``.safetensors``. An existing file is replaced.
        extra : tree, optional
            Other data of the run: None, bools, ints, floats, strings, NumPy scalars and arrays in
            lists, tuples and dicts with string or integer keys, such as
            ``{"epoch": 3, "rng": rng.bit_generator.state}``. Loading returns it unchanged, except
            that an ``OrderedDict`` or ``defaultdict`` becomes a dict, and an ``np.str_`` a string.
        params : bool, default True
            False leaves the parameters out.

        Raises
        ------
        TypeError
            If `extra` contains data that loading could not restore; nothing is written.
        ValueError
            If a parameter is no longer the array that its container holds; nothing is written.
        OSError
            If writing fails, with the cause; an existing file stays in place.
        BusyError
            If another thread or process writes this file, or the optimizer is in use.

        Notes
        -----
        The file has the parameters that train or have trained, their state, step counts, groups,
        schedules (other callables by name), and the accumulators and averages that were made for
        this optimizer. Arrays are written without a copy: a thread that steps the optimizer
        meanwhile gets a `BusyError`.

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
        convert: bool = False,
    ) -> LoadReport:
        """Load a file that `save` wrote, in place. Everything is checked before the first change.

        Parameters
        ----------
        path : str or path
            The file.
        hyperparameters : {"saved", "current"}, default "saved"
            Hyperparameters and groups to use from now on, as in `load_state_dict`.
        strict : bool, default True
            False loads the entries that fit and reports the others.
        params : bool, default True
            False leaves the parameters unchanged; required for a file without parameters.
        convert : bool, default False
            Load state of another format, as in `load_state_dict`.

        Returns
        -------
        LoadReport
            As of `load_state_dict`, with the saved `extra`.

        Raises
        ------
        ValueError
            If the file is damaged or does not fit, with a list of all differences; nothing is
            loaded.
        OSError
            If the file cannot be read.

        Notes
        -----
        The file is read twice in pieces, once to check it and once into the arrays, so the memory
        needed does not grow with the model.
        """
        return files.load(
            self._held,
            files.Opened(path),
            hyperparameters=hyperparameters,
            strict=strict,
            params=params,
            convert=convert,
        )

    @property
    def state_dir(self) -> Path | None:
        """Directory of the memory-mapped parameters and state; None without one."""
        return None if self._held.files is None else self._held.files.path

    def flush(self) -> None:
        """Flush memory-mapped parameters and state to disk, so that they survive a power failure.

        `close` and the exit of the interpreter do the same. A no-op without `state_dir`.

        Raises
        ------
        BusyError
            Inside `open_step` and `EMA.swapped`.
        """
        self._held.flush()

    def close(self) -> None:
        """Flush, and release the directory for another optimizer; this one can no longer step.

        The exit of the interpreter and the deletion of the optimizer do the same. A no-op without
        `state_dir`.

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
        beside = (*self.rule.optional, "state", "rows", "row_steps")
        keys = [*self.rule.keys, *(key for key in beside if key in base)]
        values = ", ".join(f"{key}={base[key]!r}" for key in keys)
        state = sum(a.nbytes for leaf in self.state.values() for a in arrays_of(leaf).values())
        frozen = len(self._held.params) - len(trains)
        rest = f", {frozen} frozen" if frozen else ""
        return (
            f"{self.rule.name}({values}; {len(trains)} arrays, {size:,} parameters train{rest}, "
            f"{state:,} bytes of state, step {self.step_count})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        own = {key: value for key, value in self.__dict__.items() if key != "_held"}
        return _new, (type(self),), {**pickled(self._held), "attributes": own}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        unpickle(self._held, self.rule, saved)
        self.__dict__.update(saved["attributes"])


def _new(cls: type[Optimizer]) -> Optimizer:
    return cls.__new__(cls)

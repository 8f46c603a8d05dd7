"""Taking over a state dict: plain dicts, lists, numbers and arrays, or those of a file.

Everything is checked first. Differences are collected, not raised one by one, so that a user sees
all of them at once; only then is anything changed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thalweg import _core
from thalweg.groups.group import Cascade, Group, check_value, resolve
from thalweg.groups.matching import Matching, Names
from thalweg.schedule import from_json
from thalweg.state.form import Unreadable, check_form, is_step, readable, whole

if TYPE_CHECKING:
    from thalweg.averages.mirror import Planned
    from thalweg.optimizer import Optimizer

__all__ = ["LoadReport"]

STRUCTURAL = ("amsgrad", "nesterov", "independent", "maximize")
"""Options that are part of the trajectory; ``nonfinite`` is not, and stays the constructor's."""


@dataclass(frozen=True)
class LoadReport:
    """What loading a state dict did."""

    step: int
    """Number of steps taken by the optimizer that was saved."""
    extra: Any = None
    """What the user saved along with it."""
    missing: tuple[str, ...] = ()
    """Parameters that train and that nothing was saved of; names of accumulators and averages."""
    unexpected: tuple[str, ...] = ()
    """Saved names that are no parameter, or a frozen one that could not train as it is."""
    mismatched: tuple[str, ...] = ()
    """Saved entries that do not fit, each with both sides."""
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """Hyperparameters that changed: old value and new."""


@dataclass(frozen=True)
class Origin:
    """Where a state dict comes from, and what comes with it."""

    what: str = "the state dict"
    """What it is in messages."""
    params: Mapping[str, Any] | None = None
    """Of a file, the parameters too. Its arrays, and those of the state dict, are not read yet."""
    extra: Any = None
    """Of a file, what the user saved along with it."""
    foreign: Sequence[str] | None = None
    """Differences that were found before, if another library saved the state: it knows of no
    accumulators and averages, and those here stay as they are."""
    stacklevel: int = 3
    """Where the user's code is."""


def load_state_dict(
    opt: Optimizer,
    saved: Mapping[str, Any],
    *,
    hyperparameters: Literal["saved", "current"],
    strict: bool,
    origin: Origin | None = None,
) -> LoadReport:
    """See `Optimizer.load_state_dict`; and `Origin`, if it does not come from there."""
    origin = origin or Origin()
    if hyperparameters not in ("saved", "current"):
        raise ValueError(f"hyperparameters must be 'saved' or 'current', got {hyperparameters!r}")
    check_form(saved)
    plan = _Plan(opt, saved, origin.params, others=hyperparameters == "saved")
    if plan.others:
        plan.check_header()
        plan.plan_groups()
    plan.plan_state()
    plan.plan_params()
    if origin.foreign is None:
        plan.plan_attached()
    else:
        plan.mismatched += origin.foreign
    if strict:
        plan.refuse(origin.what)
    if plan.changed:
        listed = ", ".join(f"{key}: {old!r} -> {new!r}" for key, (old, new) in plan.changed.items())
        # Before anything is changed, because a warning can be an error.
        warnings.warn(f"loading changes hyperparameters: {listed}", stacklevel=origin.stacklevel)
    plan.carry_out()
    return LoadReport(
        step=whole(saved["step_count"]),
        extra=origin.extra,
        missing=tuple(plan.missing),
        unexpected=tuple(plan.unexpected),
        mismatched=tuple(plan.mismatched),
        changed=plan.changed,
    )


class _Plan:
    """What loading would do, and what stands against it."""

    def __init__(
        self,
        opt: Optimizer,
        saved: Mapping[str, Any],
        params: Mapping[str, Any] | None,
        *,
        others: bool,
    ) -> None:
        self.opt = opt
        self.saved = saved
        self.params = params
        self.others = others  # whether the saved hyperparameters count
        self.missing: dict[str, None] = {}
        self.unexpected: dict[str, None] = {}
        self.strangers: dict[str, None] = {}  # names that only groups have
        self.mismatched: list[str] = []
        self.changed: dict[str, tuple[Any, Any]] = {}
        self.groups: Sequence[Group] = opt.groups
        self.cascade = opt._cascade
        self.states: dict[str, dict[str, Any]] = {}
        self.thaws: dict[str, int] = {}  # frozen parameters that get so many arrays of state
        self.attached: list[Planned] = []

    def check_header(self) -> None:
        """Rule and options must be the same where the saved hyperparameters are to count."""
        if self.saved["rule"] != self.opt.rule.name:
            self.mismatched.append(
                f"rule: saved {self.saved['rule']!r}, here {self.opt.rule.name!r}"
            )
        for key in STRUCTURAL:
            theirs, ours = self.saved["options"].get(key), self.opt._options[key]
            if theirs != ours:
                self.mismatched.append(f"option {key}: saved {theirs!r}, here {ours!r}")

    def plan_groups(self) -> None:
        """Groups with the saved values; callables stay where they are."""
        groups: list[Group] = []
        before = len(self.mismatched)
        params = Matching(self.opt._params)
        for i, recorded in enumerate(self.saved["groups"]):
            keys = [key for key in recorded if key != "match"]
            if i == 0:
                keys = list(dict.fromkeys([*self.opt.rule.keys, *keys]))
            values = {key: self._value(i, key, recorded.get(key)) for key in keys}
            names = list(params.params) if i == 0 else params.ordered(recorded["match"])
            groups.append(Group(self.opt, "*" if i == 0 else Names(tuple(names)), names, values))
        self._plan_strangers()
        if len(self.mismatched) == before:
            self._compare(groups)
            self.groups, self.cascade = groups, Cascade(groups, self.opt._params)

    def _plan_strangers(self) -> None:
        """Names that groups have and nothing else here, unless they were frozen."""
        frozen: dict[str, bool] = {}
        for recorded in self.saved["groups"]:
            told = {"frozen": bool(recorded["frozen"])} if "frozen" in recorded else {}
            for name in recorded["match"]:
                if name not in self.opt._params and name not in self.saved["state"]:
                    frozen[name] = told.get("frozen", frozen.get(name, False))
        self.strangers = dict.fromkeys(name for name, is_frozen in frozen.items() if not is_frozen)
        self.unexpected |= self.strangers

    def _value(self, position: int, key: str, recorded: Any) -> Any:
        """The value of a group's key, or None and a mismatch."""
        current = self.opt.groups[position] if position < len(self.opt.groups) else None
        mine = getattr(current, key, None)
        what = f"groups[{position}].{key}"
        try:
            if key == "betas" and recorded is not None:
                ours = mine or (None, None)
                recorded = [restored(*pair) for pair in zip(recorded, ours, strict=True)]
            else:
                recorded = restored(recorded, mine)
            return check_value(self.opt.rule, key, recorded)
        except (TypeError, ValueError) as error:
            self.mismatched.append(f"{what}: {error}")
            return None

    def _compare(self, groups: list[Group]) -> None:
        current = self.opt.groups
        if len(groups) != len(current):
            self.changed["number of groups"] = (len(current), len(groups))
        for i, (old, new) in enumerate(zip(current, groups, strict=False)):
            if set(old.names) != set(new.names):
                self.changed[f"groups[{i}].names"] = (old.names, new.names)
            for key in dict.fromkeys([*old.keys(), *new.keys()]):
                before, after = getattr(old, key, None), getattr(new, key, None)
                if before != after:
                    self.changed[f"groups[{i}].{key}"] = (before, after)

    def plan_state(self) -> None:
        """Which arrays are copied where; what is missing, unexpected or of another shape."""
        saved, params = self.saved["state"], self.opt._params
        trains = self._trains()
        self.missing |= dict.fromkeys(name for name in trains if name not in saved)
        for name in saved:
            if name not in trains and not could_train(params.get(name)):
                self.unexpected[name] = None
                continue
            leaf = read(saved[name])
            keys = self._state_keys(name)
            found = differences(name, params[name], leaf, keys)
            if found:
                self.mismatched += found
                continue
            self.states[name] = {**leaf, "step": whole(leaf["step"])}
            if self.opt._updater.state(name) is None:
                self.thaws[name] = len(keys)
        self._forget(trains)

    def plan_params(self) -> None:
        """Which parameters are loaded; what is missing, unexpected or of another shape."""
        if self.params is None:
            return
        trains = self._trains()
        self.missing |= dict.fromkeys(name for name in trains if name not in self.params)
        for name, saved in self.params.items():
            if name not in trains and not could_train(self.opt._params.get(name)):
                self.unexpected[name] = None
            elif found := differs(f"parameter {name!r}", self.opt._params[name], saved):
                self.mismatched.append(found)
            elif name in trains or name in self.states:
                self.states.setdefault(name, {})["param"] = saved

    def _forget(self, trains: Mapping[str, Any]) -> None:
        """What is frozen and had no history when it was saved has none once loaded."""
        known = set(self.saved["groups"][0]["match"]) - set(self.saved["state"]) - set(trains)
        for name in known:
            arrays = self.opt._updater.state(name) if name in self.opt._params else None
            if arrays is not None:
                zeros = {
                    key: np.broadcast_to(a.dtype.type(0), a.shape) for key, a in arrays.items()
                }
                self.states[name] = {**zeros, "step": 0}

    def plan_attached(self) -> None:
        """Which accumulators and averages take over what was saved of them."""
        saved, attached = self.saved["attached"], self.opt._attached
        trains = self._trains()
        self.unexpected |= dict.fromkeys(name for name in saved if name not in attached)
        for name, mirror in attached.items():
            if name not in saved:
                self.missing[name] = None
                continue
            planned = mirror._plan(saved[name], trains, others=self.others)
            self.mismatched += [f"{name}: {difference}" for difference in planned.differences]
            if planned.fits:
                self.attached.append(planned)
                if planned.changed:
                    self.changed[f"{name}.decay"] = planned.changed

    def _trains(self) -> dict[str, Any]:
        """The parameters that will train once loaded."""
        return {name: self.opt._params[name] for name in self.cascade.trains()}

    def _state_keys(self, name: str) -> set[str]:
        """The state arrays that a parameter will have."""
        arrays = self.opt._updater.state(name)
        if arrays is not None:
            return set(arrays)
        if "betas" in self.opt.rule.keys:
            amsgrad = {"max_exp_avg_sq"} if self.opt._options["amsgrad"] else set()
            return {"exp_avg", "exp_avg_sq"} | amsgrad
        applies = resolve([self.groups[i]._values for i in self.cascade.matching(name)])
        return {"momentum_buffer"} if applies["momentum"] != 0.0 else set()

    def refuse(self, what: str) -> None:
        """Raise if anything is missing, unexpected or mismatched."""
        found = [
            *self.mismatched,
            *(f"nothing saved for {name!r}" for name in self.missing),
            *(
                f"saved {name!r}, which is no parameter that can train here"
                for name in self.unexpected
                if name not in self.saved["attached"] and name not in self.strangers
            ),
            *(
                f"saved groups are for {name!r}, which is no parameter here"
                for name in self.strangers
            ),
            *(
                f"saved {name!r}, an accumulator or average that is not here; make it first, as "
                "thalweg.EMA(opt, ...) or thalweg.Accumulator(opt)"
                for name in self.unexpected
                if name in self.saved["attached"]
            ),
        ]
        if found:
            differences = "\n- ".join(found)
            raise ValueError(f"{what} does not fit; nothing was loaded:\n- {differences}")

    def carry_out(self) -> None:
        """Change groups, counters and state, in one native call that nothing can interrupt."""
        skips = self.saved["skips"]
        counts = whole(self.saved["step_count"]), whole(skips["total"]), whole(skips["consecutive"])
        try:
            attached = [planned.prepared() for planned in self.attached]
            self.opt._adopt(self.groups, self.thaws, ((*counts, 0.0), self.states), attached)
        except BaseException:
            for planned in self.attached:
                planned.undo()
            raise
        for planned in self.attached:
            planned.finish()


def could_train(param: Any) -> bool:
    """Whether a frozen parameter is an array that can be written."""
    return (
        isinstance(param, np.ndarray)
        and not isinstance(param, np.ma.MaskedArray)
        and param.flags.writeable
        and param.flags.aligned
    )


def read(leaf: Mapping[str, Any]) -> dict[str, Any]:
    """What is saved of a parameter; each item is asked for once, as it may be a view of a file."""
    return {key: value if key == "step" else readable(value) for key, value in leaf.items()}


def differences(name: str, param: Any, saved: Mapping[str, Any], expected: set[str]) -> list[str]:
    """Why saved arrays and step of a parameter do not fit."""
    if not is_step(saved.get("step")):
        return [f"state of {name!r}: step is {saved.get('step')!r}"]
    keys = {key for key in saved if key != "step"}
    if keys != expected:
        return [f"state of {name!r}: saved {sorted(keys, key=str)}, here {sorted(expected)}"]
    found = [differs(f"{key} of {name!r}", param, saved[key]) for key in sorted(keys)]
    return [difference for difference in found if difference]


def differs(what: str, param: Any, array: Any) -> str | None:
    """Why a saved array is none for a parameter."""
    if isinstance(array, np.ma.MaskedArray):
        return f"{what}: saved a masked array; fill it first (array.filled(0))"
    if isinstance(array, Unreadable):
        return f"{what}: saved {array.kind}, which does not become an ndarray; {array.reason}"
    if not isinstance(array, np.ndarray | _core.Stored):
        return f"{what}: saved {type(array).__name__}, not an array"
    if array.shape != param.shape or array.dtype != param.dtype:
        return f"{what}: saved {array.dtype} {array.shape}, here {param.dtype} {param.shape}"
    return None


def restored(recorded: Any, mine: Any) -> Any:
    """What was recorded, or the callable that is here where one was that is no plain value."""
    if isinstance(recorded, Mapping) and "schedule" in recorded:
        return from_json(recorded["schedule"])
    if not (isinstance(recorded, Mapping) and "callable" in recorded):
        return recorded
    if callable(mine):
        return mine
    raise ValueError(
        f"saved the callable {recorded['callable']}, here {mine!r}; make the optimizer with that "
        "callable, or load with hyperparameters='current'"
    )

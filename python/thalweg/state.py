"""State dicts: what an optimizer remembers, as plain dicts, lists, numbers and arrays.

Loading checks everything first. Differences are collected, not raised one by one, so that a user
sees all of them at once; only then is anything changed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thalweg.groups import Group, check_value

if TYPE_CHECKING:
    from thalweg.optimizers import Optimizer

__all__ = ["LoadReport"]

FORMAT = 1
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
    """Parameters that train and have no saved state."""
    unexpected: tuple[str, ...] = ()
    """Saved names that are no parameter that trains."""
    mismatched: tuple[str, ...] = ()
    """Saved entries that do not fit, each with both sides."""
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """Hyperparameters that changed: old value and new."""


def state_dict(opt: Optimizer, *, copy: bool) -> dict[str, Any]:
    """See `Optimizer.state_dict`."""
    states = {
        name: {
            key: value.copy() if copy and isinstance(value, np.ndarray) else value
            for key, value in leaf.items()
        }
        for name, leaf in opt.state.items()
        if not opt.resolve(name)["frozen"]
    }
    return {
        "format": FORMAT,
        "rule": opt.rule.name,
        "options": dict(opt._options),
        "step_count": opt.step_count,
        "groups": [_recorded(group) for group in opt.groups],
        "state": states,
    }


def _recorded(group: Group) -> dict[str, Any]:
    values = {key: getattr(group, key) for key in group.keys()}  # noqa: SIM118
    return {
        "match": list(group.names),
        **{
            key: [_record(v) for v in value] if key == "betas" else _record(value)
            for key, value in values.items()
        },
    }


def _record(value: Any) -> Any:
    if not callable(value):
        return value
    module = getattr(value, "__module__", None) or type(value).__module__
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return {"callable": f"{module}.{name}"}


def _is_callable_record(value: Any) -> bool:
    return isinstance(value, Mapping) and "callable" in value


class _Plan:
    """What loading would do, and what stands against it."""

    def __init__(self, opt: Optimizer, saved: Mapping[str, Any]) -> None:
        self.opt = opt
        self.saved = saved
        self.missing: list[str] = []
        self.unexpected: list[str] = []
        self.mismatched: list[str] = []
        self.changed: dict[str, tuple[Any, Any]] = {}
        self.groups: list[Group] | None = None
        self.copies: list[tuple[str, int, dict[str, np.ndarray[Any, Any]]]] = []

    def check_header(self, *, structure: bool) -> None:
        opt, saved = self.opt, self.saved
        if saved["rule"] != opt.rule.name and structure:
            self.mismatched.append(f"rule: saved {saved['rule']!r}, here {opt.rule.name!r}")
        for key in STRUCTURAL if structure else ("amsgrad",):
            if saved["options"].get(key, False) != opt._options[key]:
                self.mismatched.append(
                    f"option {key}: saved {saved['options'].get(key)}, here {opt._options[key]}"
                )

    def plan_groups(self) -> None:
        """Groups with the saved values; callables stay where they are."""
        current = self.opt.groups
        groups: list[Group] = []
        for i, recorded in enumerate(self.saved["groups"]):
            values = {
                key: self._value(i, key, value) for key, value in recorded.items() if key != "match"
            }
            names = [name for name in self.opt._params if i == 0 or name in recorded["match"]]
            match = current[i].match if i < len(current) else names
            groups.append(Group(self.opt, match, names, values))
        if self.mismatched:
            return
        self.groups = groups
        self._compare(groups)

    def _value(self, position: int, key: str, recorded: Any) -> Any:
        current = self.opt.groups[position] if position < len(self.opt.groups) else None
        mine = getattr(current, key, None)
        if key == "betas":
            pair = mine if isinstance(mine, tuple) else (None, None)
            value: Any = [
                self._one(f"groups[{position}].betas[{i}]", pair[i], beta)
                for i, beta in enumerate(recorded)
            ]
        else:
            value = self._one(f"groups[{position}].{key}", mine, recorded)
        if value is None or (key == "betas" and None in value):
            return None
        try:
            return check_value(self.opt.rule, key, value)
        except (TypeError, ValueError) as error:
            self.mismatched.append(f"groups[{position}].{key}: {error}")
            return None

    def _one(self, what: str, mine: Any, recorded: Any) -> Any:
        if not _is_callable_record(recorded):
            return recorded
        if callable(mine):
            return mine
        self.mismatched.append(
            f"{what}: saved the callable {recorded['callable']}, here {mine!r}; make the "
            "optimizer with that callable, or load with hyperparameters='current'"
        )
        return None

    def _compare(self, groups: list[Group]) -> None:
        current = self.opt.groups
        if len(groups) != len(current):
            self.changed["number of groups"] = (len(current), len(groups))
        for i, (old, new) in enumerate(zip(current, groups, strict=False)):
            if set(old.names) != set(new.names):
                self.changed[f"groups[{i}] names"] = (old.names, new.names)
            keys = dict.fromkeys([*old.keys(), *new.keys()])
            for key in keys:
                before, after = getattr(old, key, None), getattr(new, key, None)
                if before != after:
                    self.changed[f"groups[{i}].{key}"] = (before, after)

    def plan_state(self) -> None:
        """Which arrays are copied where; what is missing, unexpected or of another shape."""
        saved = self.saved["state"]
        trains = {name: array for name, array in self.opt._params.items() if self._trains(name)}
        self.unexpected += [name for name in saved if name not in trains]
        for name, param in trains.items():
            if name not in saved:
                self.missing.append(name)
                continue
            differences = self._differences(name, param, saved[name])
            if differences:
                self.mismatched += differences
            else:
                arrays = {key: v for key, v in saved[name].items() if key != "step"}
                self.copies.append((name, int(saved[name]["step"]), arrays))

    def _trains(self, name: str) -> bool:
        groups = self.opt.groups if self.groups is None else self.groups
        frozen = False
        for group in groups:
            if name in group.names:
                frozen = getattr(group, "frozen", frozen)
        return not frozen

    def _differences(self, name: str, param: Any, saved: Mapping[str, Any]) -> list[str]:
        step = saved.get("step")
        if not isinstance(step, int | np.integer) or isinstance(step, bool) or step < 0:
            return [f"state of {name!r}: step is {step!r}"]
        expected = self.opt._state(name)
        keys = [key for key in saved if key != "step"]
        if expected is not None and set(keys) != set(expected):
            return [f"state of {name!r}: saved {sorted(keys)}, here {sorted(expected)}"]
        differences = []
        for key in keys:
            array = saved[key]
            if not isinstance(array, np.ndarray):
                differences.append(f"{key} of {name!r}: saved {type(array).__name__}, not an array")
            elif array.shape != param.shape or array.dtype != param.dtype:
                differences.append(
                    f"{key} of {name!r}: saved {array.dtype} {array.shape}, "
                    f"here {param.dtype} {param.shape}"
                )
        return differences

    def refuse(self) -> None:
        """Raise if anything is missing, unexpected or mismatched."""
        found = [
            *self.mismatched,
            *(f"no saved state for {name!r}" for name in self.missing),
            *(
                f"saved state for {name!r}, which is no parameter that trains"
                for name in self.unexpected
            ),
        ]
        if found:
            raise ValueError(
                "the state dict does not fit; nothing was loaded:\n- " + "\n- ".join(found)
            )

    def carry_out(self) -> None:
        """Change groups, counters and state."""
        opt = self.opt
        if self.groups is not None:
            opt._adopt(self.groups)
        opt._set_steps(
            int(self.saved["step_count"]), [(name, step) for name, step, _ in self.copies]
        )
        for name, _, arrays in self.copies:
            live = opt._state(name) or {}
            for key, array in arrays.items():
                live[key][...] = array


def load_state_dict(
    opt: Optimizer,
    saved: Mapping[str, Any],
    *,
    hyperparameters: Literal["saved", "current"],
    strict: bool,
) -> LoadReport:
    """See `Optimizer.load_state_dict`."""
    if hyperparameters not in ("saved", "current"):
        raise ValueError(f"hyperparameters must be 'saved' or 'current', got {hyperparameters!r}")
    _check_form(saved)
    plan = _Plan(opt, saved)
    take_hyperparameters = hyperparameters == "saved"
    plan.check_header(structure=take_hyperparameters)
    if take_hyperparameters:
        plan.plan_groups()
    plan.plan_state()
    if strict:
        plan.refuse()
    plan.carry_out()
    if plan.changed:
        listed = ", ".join(f"{key}: {old!r} -> {new!r}" for key, (old, new) in plan.changed.items())
        warnings.warn(f"loading changed hyperparameters: {listed}", stacklevel=3)
    return LoadReport(
        step=int(saved["step_count"]),
        missing=tuple(plan.missing),
        unexpected=tuple(plan.unexpected),
        mismatched=tuple(plan.mismatched),
        changed=plan.changed,
    )


def _check_form(saved: Mapping[str, Any]) -> None:
    """Refuse what is no state dict of ours."""
    kinds = {
        "format": int,
        "rule": str,
        "options": Mapping,
        "step_count": int,
        "groups": list,
        "state": Mapping,
    }
    wrong = [
        key
        for key, kind in kinds.items()
        if not isinstance(saved, Mapping) or not isinstance(saved.get(key), kind)
    ]
    if wrong:
        raise ValueError(f"not a state dict of thalweg: {', '.join(wrong)} missing or malformed")
    if saved["format"] != FORMAT:
        raise ValueError(f"state dict of format {saved['format']}, this version reads {FORMAT}")
    if not saved["groups"] or any("match" not in group for group in saved["groups"]):
        raise ValueError("not a state dict of thalweg: groups missing or malformed")
    if saved["step_count"] < 0:
        raise ValueError(f"step_count is {saved['step_count']}")


def pickled(opt: Optimizer) -> dict[str, Any]:
    """What `pickle` and `copy` keep: parameters and callables too, matchers as names."""
    ours = ("_tree", "_params", "_groups", "_cascade", "_options")
    return {
        "params": opt._tree,
        "options": opt._options,
        "groups": [(group.names, dict(group._values)) for group in opt.groups],
        "step_count": opt.step_count,
        "state": {name: dict(leaf) for name, leaf in opt.state.items()},
        "attributes": {key: value for key, value in opt.__dict__.items() if key not in ours},
    }


def unpickle(opt: Optimizer, saved: dict[str, Any]) -> None:
    """Make an optimizer from what `pickled` kept."""
    (_, base), *others = saved["groups"]
    groups = [{"match": list(names), **values} for names, values in others]
    opt._start(saved["params"], groups, base, saved["options"])
    opt.__dict__.update(saved["attributes"])
    opt._set_steps(
        saved["step_count"], [(name, leaf["step"]) for name, leaf in saved["state"].items()]
    )
    for name, leaf in saved["state"].items():
        live = opt._state(name) or {}
        for key, array in leaf.items():
            if key != "step":
                live[key][...] = array

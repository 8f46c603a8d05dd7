"""The plan of loading a state dict: changes to make, and differences found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.compact.decoding import BITS, LOW, is_bfloat16, narrow_name
from thalweg.groups.cascade import Cascade
from thalweg.groups.group import Group, values_of
from thalweg.groups.matching import Matching, Names
from thalweg.groups.rule import STATE_NAMES, structural
from thalweg.groups.values import FORMATS, check_value, native, resolve
from thalweg.state.converted import converted, converted_param, other_format
from thalweg.state.fitting import (
    could_train,
    differences,
    differing,
    differs,
    kind_of,
    read,
    refusal,
    restored,
)
from thalweg.state.form import LOW_OF, whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thalweg.mapped.arrays import Kind
    from thalweg.state.attached import Planned
    from thalweg.state.held import Held

__all__ = ["Plan"]


class Plan:
    """Changes that loading would make, and the differences between saved and present data.

    Each method `plan_...` compares one part and changes nothing; `carry_out` makes the changes.
    """

    def __init__(
        self,
        held: Held,
        saved: Mapping[str, Any],
        params: Mapping[str, Any] | None,
        *,
        use_saved: bool,
        convert: bool,
    ) -> None:
        self.held = held
        self.saved = saved
        self.params = params
        self.use_saved = use_saved  # whether saved hyperparameters replace the present ones
        self.convert = convert  # whether state of another format is converted
        self.missing: dict[str, None] = {}
        self.unexpected: dict[str, None] = {}
        self.unmatched: dict[str, None] = {}  # names in saved groups that have no other entry
        self.mismatched: list[str] = []
        self.changed: dict[str, tuple[Any, Any]] = {}
        self.groups: Sequence[Group] = held.groups
        self.cascade = held.cascade
        self.states: dict[str, dict[str, Any]] = {}
        self.thaws: dict[str, int] = {}  # number of arrays to make for parameters without state
        self.attached: list[Planned] = []

    def check_header(self) -> None:
        """Compare rule and options, which must be equal to load saved hyperparameters."""
        if self.saved["rule"] != self.held.rule.name:
            self.mismatched.append(differing("rule", self.saved["rule"], self.held.rule.name))
        saved, here = self.saved["options"], structural(self.held.options)
        # A choice that a rule lacks is off.
        for key in {**here, **structural(saved)}:
            theirs, ours = saved.get(key, False), here.get(key, False)
            if theirs != ours:
                self.mismatched.append(differing(f"option {key}", theirs, ours))

    def plan_groups(self) -> None:
        """Make groups with the saved values; a callable saved by name alone is the present one."""
        groups: list[Group] = []
        before = len(self.mismatched)
        params = Matching(self.held.params)
        for i, recorded in enumerate(self.saved["groups"]):
            keys = [key for key in recorded if key != "match"]
            if i == 0:
                keys = list(dict.fromkeys([*self.held.rule.keys, *keys]))
            values = {key: self._value(i, key, recorded.get(key)) for key in keys}
            names = list(params.params) if i == 0 else params.ordered(recorded["match"])
            groups.append(Group(self.held, "*" if i == 0 else Names(tuple(names)), names, values))
        self._keep_formats(groups)
        self._plan_unmatched()
        # Values of another rule are not meant for this one, even under the same keys.
        if len(self.mismatched) == before and self.saved["rule"] == self.held.rule.name:
            self._compare(groups)
            self.groups, self.cascade = groups, Cascade(groups, self.held.params)

    def _keep_formats(self, groups: list[Group]) -> None:
        """Give `groups` the formats of state here, which a load does not change."""
        for group in groups:
            for key in FORMATS:
                values_of(group).pop(key, None)
        for i, ours in enumerate(self.held.groups):
            values = {key: v for key, v in values_of(ours).items() if key in FORMATS}
            if not values:
                continue
            if i < len(groups) and set(groups[i].names) == set(ours.names):
                values_of(groups[i]).update(values)
            else:
                groups.append(Group(self.held, Names(ours.names), ours.names, values))

    def _plan_unmatched(self) -> None:
        """Find names in saved groups with neither parameter nor saved state, except frozen ones."""
        frozen: dict[str, bool] = {}
        for recorded in self.saved["groups"]:
            told = {"frozen": bool(recorded["frozen"])} if "frozen" in recorded else {}
            for name in recorded["match"]:
                if name not in self.held.params and name not in self.saved["state"]:
                    frozen[name] = told.get("frozen", frozen.get(name, False))
        self.unmatched = dict.fromkeys(name for name, is_frozen in frozen.items() if not is_frozen)
        self.unexpected |= self.unmatched

    def _value(self, position: int, key: str, recorded: Any) -> Any:
        """The value of a group's key; on a mismatch, record it and return None."""
        current = self.held.groups[position] if position < len(self.held.groups) else None
        mine = getattr(current, key, None)
        what = f"groups[{position}].{key}"
        try:
            if key == "betas" and recorded is not None:
                ours = mine or (None, None)
                recorded = [restored(*pair) for pair in zip(recorded, ours, strict=True)]
            else:
                recorded = restored(recorded, mine)
            return check_value(self.held.rule, key, recorded)
        except (TypeError, ValueError) as error:
            self.mismatched.append(f"{what}: {error}")
            return None

    def _compare(self, groups: list[Group]) -> None:
        current = self.held.groups
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
        """Find the state to load, and state that is missing, unexpected or does not fit."""
        saved, params = self.saved["state"], self.held.params
        trains = self._trains()
        self.missing |= dict.fromkeys(name for name in trains if name not in saved)
        for name in saved:
            if name not in trains and not could_train(params.get(name)):
                self.unexpected[name] = None
                continue
            leaf = read(saved[name])
            try:
                expected = self._expected(name)
            except TypeError as error:  # the parameter is frozen, and no array that could train
                self.mismatched.append(str(error))
                continue
            if LOW in expected and (other := self._other_low(name, leaf)):
                if not self.convert:
                    self.mismatched.append(other)
                    continue
                leaf = {key: array for key, array in leaf.items() if key != LOW}
            if self.convert:
                leaf = converted(leaf, expected)
            other = other_format(leaf, expected)
            found = [f"state of {name!r}: {other}"] if other else differences(name, leaf, expected)
            if found:
                self.mismatched += found
                continue
            self.states[name] = {**leaf, "step": whole(leaf["step"])}
            if self.held.updater.state(name) is None:
                self.thaws[name] = sum(key in STATE_NAMES for key in expected)
        self._forget(trains)

    def _other_low(self, name: str, leaf: Mapping[str, Any]) -> str | None:
        """The difference, if saved `low` is that of a parameter of another narrow type."""
        theirs, ours = self.saved.get(LOW_OF, {}).get(name), self.held.params[name].dtype
        if LOW not in leaf or theirs in (None, narrow_name(ours)):
            return None
        what = f"type of {name!r}, which its low depends on"
        return (
            f"{differing(what, theirs, narrow_name(ours))}; pass convert=True, which converts low "
            "with a parameter that is loaded too, and else sets it to zero"
        )

    def plan_params(self) -> None:
        """Find the parameters to load, and those that are missing, unexpected or do not fit."""
        if self.params is None:
            return
        trains = self._trains()
        self.missing |= dict.fromkeys(name for name in trains if name not in self.params)
        for name, saved in self.params.items():
            if name not in trains and not could_train(self.held.params.get(name)):
                self.unexpected[name] = None
                continue
            kind = self._param_kind(name)
            if self.convert and getattr(saved, "dtype", kind[0]) != kind[0]:
                saved = self._converted_param(name, saved, kind)  # noqa: PLW2901
            if found := differs(f"parameter {name!r}", kind, saved):
                self.mismatched.append(found)
            elif name in trains or name in self.states:
                live = self.held.params[name].dtype
                if isinstance(saved, np.ndarray) and saved.dtype != live:
                    saved = saved.view(live)  # noqa: PLW2901 - the bits of bfloat16
                self.states.setdefault(name, {})["param"] = saved

    def _param_kind(self, name: str) -> Kind:
        """Dtype and shape of a saved parameter that fits; bfloat16 is saved as its bits."""
        dtype, shape = kind_of(self.held.params[name])
        return (BITS if is_bfloat16(dtype) else dtype), shape

    def _converted_param(self, name: str, saved: Any, kind: Kind) -> Any:
        """A saved parameter of another dtype, as it is here; what it lacks goes to its state."""
        theirs = self.saved["state"].get(name, {}).get(LOW)
        param, low = converted_param(saved, theirs, kind[0])
        if low is not None and LOW in self._expected(name):
            self.states.setdefault(name, {})[LOW] = low
        return param

    def _forget(self, trains: Mapping[str, Any]) -> None:
        """Zero the state of frozen parameters that had none when the state dict was saved."""
        known = set(self.saved["groups"][0]["match"]) - set(self.saved["state"]) - set(trains)
        for name in known:
            arrays = self.held.updater.state(name) if name in self.held.params else None
            if arrays is not None:
                zeros = {
                    key: np.broadcast_to(a.dtype.type(0), a.shape) for key, a in arrays.items()
                }
                self.states[name] = {**zeros, "step": 0}

    def plan_attached(self) -> None:
        """Plan the loading of accumulators and averages."""
        saved, attached = self.saved["attached"], self.held.attached
        trains = self._trains()
        self.unexpected |= dict.fromkeys(name for name in saved if name not in attached)
        for name, mirror in attached.items():
            if name not in saved:
                self.missing[name] = None
                continue
            planned = mirror.plan(saved[name], trains, use_saved=self.use_saved)
            self.mismatched += [f"{name}: {difference}" for difference in planned.differences]
            if planned.fits:
                self.attached.append(planned)
                if planned.changed:
                    self.changed[f"{name}.decay"] = planned.changed

    def _trains(self) -> dict[str, Any]:
        """The parameters that train after loading."""
        return {name: self.held.params[name] for name in self.cascade.trains()}

    def _expected(self, name: str) -> dict[str, Kind]:
        """Dtypes and shapes of the state arrays that a parameter has after loading."""
        matching = self.cascade.matching(name)
        values = [values_of(self.groups[i]) for i in matching]
        return self.held.kinds(name, lambda: native(resolve(values)))

    def refuse(self, what: str) -> None:
        """Raise ValueError if an entry is missing, unexpected or mismatched."""
        found = [
            *self.mismatched,
            *(f"missing: {name!r}" for name in self.missing),
            *(
                f"unexpected: {name!r}, which is not a parameter that can train here"
                for name in self.unexpected
                if name not in self.saved["attached"] and name not in self.unmatched
            ),
            *(
                f"unexpected in the saved groups: {name!r}, which is not a parameter here"
                for name in self.unmatched
            ),
            *(
                f"unexpected: {name!r}, an accumulator or average that is not attached here; "
                "attach it first (thalweg.EMA(opt, ...) or thalweg.Accumulator(opt))"
                for name in self.unexpected
                if name in self.saved["attached"]
            ),
        ]
        if found:
            raise ValueError(refusal(what, found))

    def carry_out(self) -> None:
        """Change groups, counters and state in one native call, which cannot be interrupted."""
        skips = self.saved["skips"]
        counts = whole(self.saved["step_count"]), whole(skips["total"]), whole(skips["consecutive"])
        try:
            attached = [planned.prepared() for planned in self.attached]
            states = self.held.fetched(self.states)
            self.held.adopt(self.groups, self.thaws, ((*counts, 0.0), states), attached)
        except BaseException:
            for planned in self.attached:
                planned.undo()
            raise
        for planned in self.attached:
            planned.finish()

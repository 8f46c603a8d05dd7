"""Model of an optimizer in plain NumPy: the state that `thalweg`'s must have after every action.

The model has names in place of trees, and copies in place of shared arrays. Its arithmetic is
`thalweg.reference`. Everything else (groups, counters, clipping, refusals, loading) is written a
second time, from the documentation, for readability and not for speed.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from formulas import EPS_MIN, FORMULAS
from thalweg import NonFiniteError, reference
from thalweg.reference import norms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Array = np.ndarray[Any, Any]
Values = dict[str, Any]

SETTINGS = {"frozen": False, "state": "full", "rows": None, "row_steps": False}
"""What groups set beside hyperparameters, with the defaults."""


class Refused(Exception):  # noqa: N818 - the outcome of an action, not an error of the model
    """The real optimizer must raise `error` and change nothing."""

    def __init__(self, error: type[Exception], nonfinite: dict[str, int] | None = None) -> None:
        super().__init__(error.__name__)
        self.error = error
        self.nonfinite = nonfinite


def expect(condition: object, error: type[Exception]) -> None:
    if not condition:
        raise Refused(error)


class Report(NamedTuple):
    step: int
    lr: float
    grad_norm: float | None
    clip: float
    skipped: bool
    nonfinite: dict[str, int]


class Opened(NamedTuple):
    """Values of all parts of a step: its number, the rate of group 0, numbers by parameter."""

    number: int
    lr: float
    numbers: dict[str, Values]


class Loaded(NamedTuple):
    step: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: bool
    changed: Values


@dataclass
class Leaf:
    array: Array
    step: int = 0
    state: dict[str, Array] | None = None  # None until the parameter first trains


@dataclass
class Group:
    names: tuple[str, ...]
    values: Values
    match: Any = None  # globs, which also match parameters added later


@dataclass
class Average:
    """Moving average of the parameters that train, or have trained since it was made."""

    decay: float
    bias_correction: bool
    count: int = 0
    leaves: dict[str, Leaf] = field(default_factory=dict)


@dataclass
class Saved:
    rule: str
    structural: Values
    counts: tuple[int, int, int]
    groups: list[Group]
    state: dict[str, Leaf]
    average: Average | None


def check_number(key: str, number: Any) -> float:
    expect(type(number) is float, TypeError)
    if key in ("betas", "alpha"):
        fits = 0.0 <= number < 1.0
    elif key in ("momentum", "dampening"):
        fits = 0.0 <= number <= 1.0
    else:
        fits = (min(EPS_MIN.values()) if key == "eps" else 0.0) <= number < math.inf
    expect(fits, ValueError)
    return number


def check_value(rule: str, key: str, value: Any) -> None:
    if key == "name":
        expect(isinstance(value, str), TypeError)
    elif key == "frozen":
        expect(isinstance(value, bool), TypeError)
    elif key == "betas" and key in FORMULAS[rule].values:
        expect(isinstance(value, tuple), TypeError)
        expect(len(value) == 2, ValueError)
        for beta in value:
            callable(beta) or check_number(key, beta)
    else:
        known = (*FORMULAS[rule].values, *FORMULAS[rule].optional, "lr_scale")
        expect(key in known, TypeError)
        callable(value) or check_number(key, value)


def cascade(groups: Sequence[Group], name: str) -> Values:
    """Values of a parameter: later groups override key by key; all scales of ``lr_scale`` apply."""
    resolved: Values = {**SETTINGS, "lr_scale": ()}
    for group in groups:
        if name in group.names:
            scales = resolved["lr_scale"]
            resolved |= {key: value for key, value in group.values.items() if key != "name"}
            own = (group.values["lr_scale"],) if "lr_scale" in group.values else ()
            resolved["lr_scale"] = scales + own
    return resolved


def at_step(values: Values, step: int) -> Values:
    """The numbers of a step; ``lr`` is multiplied by its scales."""

    def at(key: str, value: Any) -> float:
        return check_number(key, value(step)) if callable(value) else value

    numbers = {
        key: tuple(at(key, beta) for beta in value) if key == "betas" else at(key, value)
        for key, value in values.items()
        if key not in (*SETTINGS, "lr_scale")
    }
    for scale in values["lr_scale"]:
        numbers["lr"] *= at("lr_scale", scale)
    return numbers


def fits(name: str, glob: str) -> bool:
    return fnmatchcase(name, glob) or fnmatchcase(f".{name}", glob)


class Model:
    """State of an optimizer, and the effect of each method on it."""

    def __init__(
        self, rule: str, params: Mapping[str, Array], values: Values, groups: Any, options: Values
    ) -> None:
        expect("weight_decay" in values or not options.get("independent"), TypeError)
        values = {**FORMULAS[rule].values, **values}
        for key, value in values.items():
            check_value(rule, key, value)
        self.rule = rule
        self.formula = FORMULAS[rule]
        self.structural = {key: options.get(key, False) for key in self.formula.choices}
        self.nonfinite = options.get("nonfinite", "raise")
        self.step_count = self.skips = self.consecutive = 0
        self.rebound: set[str] = set()  # parameters that their containers no longer hold
        self.leaves = {name: Leaf(array) for name, array in copy.deepcopy(dict(params)).items()}
        made = [Group(tuple(self.leaves), values, "*")]
        for group in groups:
            own = {key: value for key, value in group.items() if key != "match"}
            for key, value in own.items():
                check_value(rule, key, value)
            made.append(Group(self.matching(group["match"]), own, group["match"]))
        self.groups: list[Group] = []
        self.average: Average | None = None
        self.configure(made)

    def matching(self, match: Any) -> tuple[str, ...]:
        globs = [match] if isinstance(match, str) else match
        for glob in globs:
            expect(any(fits(name, glob) for name in self.leaves), ValueError)
        return tuple(name for name in self.leaves if any(fits(name, glob) for glob in globs))

    def extend(self, params: Mapping[str, Array], values: Values) -> None:
        """Add parameters, with one more group for them."""
        before, added = self.leaves, [name for name in params if name not in self.leaves]
        self._check_adoptable(params)
        self.leaves = {name: Leaf(array) for name, array in copy.deepcopy(dict(params)).items()}
        for name, leaf in before.items():
            self.leaves[name].step, self.leaves[name].state = leaf.step, leaf.state
        made = []
        for group in self.groups:
            globs = [group.match] if isinstance(group.match, str) else group.match or []
            more = {name for name in added if any(fits(name, glob) for glob in globs)}
            names = tuple(name for name in params if name in more or name in group.names)
            made.append(Group(names, group.values, group.match))
        try:
            self.configure([*made, Group(tuple(added), values, added)], params=params)
        except Refused:
            self.leaves = before
            raise
        self.rebound = set()

    def resolve(self, name: str) -> Values:
        resolved = cascade(self.groups, name)
        scales = resolved["lr_scale"]
        if not any(callable(scale) for scale in scales):
            resolved["lr_scale"] = math.prod(scales, start=1.0)
        positions = tuple(i for i, group in enumerate(self.groups) if name in group.names)
        return {**resolved, "groups": positions}

    def trains(self, groups: Sequence[Group] | None = None) -> dict[str, Values]:
        """The parameters that are not frozen, with their values."""
        groups = self.groups if groups is None else groups
        applied = {name: cascade(groups, name) for name in self.leaves}
        return {name: values for name, values in applied.items() if not values["frozen"]}

    def state_keys(self, values: Values) -> tuple[str, ...]:
        return self.formula.states({**values, **self.structural}.get)

    def configure(
        self,
        groups: list[Group],
        thawed: Sequence[str] = (),
        params: Mapping[str, Array] | None = None,
    ) -> None:
        """Set the groups; a parameter that first trains, or is in `thawed`, gets its state."""
        trains = self.trains(groups)
        for name, values in trains.items():
            least = EPS_MIN.get(self.leaves[name].array.dtype, 0.0)
            expect(callable(values.get("eps")) or values.get("eps", 1.0) >= least, ValueError)
        if self.structural.get("nesterov"):
            # Group 0 alone and the values of frozen parameters must be valid too.
            for values in [groups[0].values, *(cascade(groups, name) for name in self.leaves)]:
                expect(values["momentum"] != 0.0, ValueError)
                expect(callable(values["dampening"]) or values["dampening"] == 0.0, ValueError)
        if "history" in self.formula.state:
            for values in [groups[0].values, *(cascade(groups, name) for name in self.leaves)]:
                expect(values["betas"][0] != 0.0, ValueError)
        started: dict[str, dict[str, Array]] = {}
        for name in dict.fromkeys([*trains, *thawed]):
            leaf, keys = self.leaves[name], self.state_keys(cascade(groups, name))
            if leaf.state is None:
                expect(leaf.array.dtype in EPS_MIN, TypeError)
                started[name] = {
                    key: np.zeros(3) if key == "history" else np.zeros_like(leaf.array)
                    for key in keys
                }
            else:
                expect(
                    len(keys) <= len(leaf.state), ValueError
                )  # no momentum from zero: there is no buffer
        self._check_tied(set(trains), params)
        for name, state in started.items():
            self.leaves[name].state = state
        self.groups = groups
        self._follow()

    def _follow(self) -> None:
        """Add the parameters that train to the average, with their present values."""
        if self.average is not None:
            for name in self.trains():
                start = Leaf(self.leaves[name].array.copy())
                self.average.leaves.setdefault(name, start)

    def make_average(self, decay: float, *, bias_correction: bool) -> None:
        self.average = Average(decay, bias_correction)
        self._follow()

    def update_average(self) -> None:
        average = self.average
        expect(average.leaves, ValueError)
        for name, leaf in average.leaves.items():
            leaf.step += 1
            p, how = self.leaves[name].array, {"bias_correction": average.bias_correction}
            leaf.array[...] = reference.average(leaf.array, p, leaf.step, average.decay, **how)
        average.count += 1

    def exchange(self) -> None:
        self._check_tied(set(self.average.leaves))
        for name, leaf in self.average.leaves.items():
            average, p = leaf.array, self.leaves[name].array
            average[...], p[...] = p.copy(), average.copy()

    def _check_tied(self, names: set[str], params: Mapping[str, Array] | None = None) -> None:
        arrays = params or {name: leaf.array for name, leaf in self.leaves.items()}
        written = [id(arrays[name]) for name in names if arrays[name].size]
        expect(len(written) == len(set(written)), ValueError)

    def edit(self, position: int, key: str, value: Any) -> None:
        expect(key not in ("match", "names"), AttributeError)
        check_value(self.rule, key, value)
        self._replace(position, {**self.groups[position].values, key: value})

    def delete(self, position: int, key: str) -> None:
        values = self.groups[position].values
        expect(key in values, AttributeError)
        expect(position or key not in FORMULAS[self.rule].values, AttributeError)
        self._replace(position, {k: value for k, value in values.items() if k != key})

    def _replace(self, position: int, values: Values) -> None:
        groups = self.groups.copy()
        groups[position] = replace(groups[position], values=values)
        self.configure(groups)

    def step(
        self,
        grads: Mapping[str, Array | None],
        scale: float = 1.0,
        *,
        partial: bool = False,
        **limits: float | None,
    ) -> Report:
        self._check_arguments(scale, limits)
        opened = self._at_step()
        numbers = opened.numbers
        expect(self.rebound.isdisjoint(numbers), ValueError)
        expect(grads.keys() <= self.leaves.keys(), ValueError)
        expect(partial or numbers.keys() <= grads.keys(), ValueError)
        taken = {n: g for n in sorted(numbers) if (g := grads.get(n)) is not None}
        expect(taken, ValueError)
        return self._take(taken, opened, scale, limits)

    def open(self) -> None:
        """Begin a step that is taken in parts."""
        expect(self.nonfinite != "skip", ValueError)
        self.opened, self.done = self._at_step(), set()

    def part(
        self, grads: Mapping[str, Array | None], scale: float = 1.0, **limits: float | None
    ) -> Report:
        self._check_arguments(scale, limits)
        expect(grads.keys() <= self.leaves.keys(), ValueError)
        trains = sorted(self.opened.numbers)
        taken = {n: g for n in trains if (g := grads.get(n)) is not None}
        expect(self.done.isdisjoint(taken), ValueError)
        expect(self.rebound.isdisjoint(taken), ValueError)
        report = self._take(taken, self.opened, scale, limits)
        self.done |= taken.keys()
        return report

    def _check_arguments(self, scale: float, limits: Mapping[str, float | None]) -> None:
        given = [limit for limit in limits.values() if limit is not None]
        expect(all(limit > 0.0 for limit in given) and len(given) <= 1, ValueError)
        expect(0.0 < scale < math.inf, ValueError)

    def _at_step(self) -> Opened:
        step = self.step_count + 1
        base = cascade(self.groups[:1], next(iter(self.leaves)))
        lr = at_step({key: base[key] for key in ("lr", "lr_scale")}, step)["lr"]
        numbers = {name: at_step(values, step) for name, values in self.trains().items()}
        return Opened(step, lr, numbers)

    def _take(
        self,
        grads: Mapping[str, Array],
        opened: Opened,
        scale: float,
        limits: Mapping[str, float | None],
    ) -> Report:
        """Update the parameters that have a gradient, all or none."""
        number, lr, numbers = opened
        taken = {}
        for name, g in grads.items():
            p = self.leaves[name].array
            expect(g.dtype in EPS_MIN, TypeError)
            expect(g.shape == p.shape, ValueError)
            self._check_coefficients(name, numbers[name], scale)
            taken[name] = g.astype(p.dtype)

        max_norm, max_tensor_norm = limits.get("max_norm"), limits.get("max_tensor_norm")
        max_value = limits.get("max_value") or math.inf
        norm, clips = None, dict.fromkeys(taken, 1.0)
        if self.nonfinite != "ignore" or max_norm or max_tensor_norm:
            root, unit = norms._root_and_unit(taken)
            norm = scale * root * unit
        for name, g in taken.items():
            together = taken if max_norm else {name: g}
            limit = max_norm or max_tensor_norm
            finite = all(np.isfinite(one).all() for one in together.values())
            if limit and (finite or self.nonfinite == "ignore"):
                clips[name] = reference.clip_factor(together, limit, scale)
        clip = float(np.min([1.0, *clips.values()]))  # unlike `min`, keeps NaN

        if self.nonfinite != "ignore":
            counts = {
                name: count
                for name, g in taken.items()
                if (count := self._count_refused(g, scale * clips[name], max_value))
            }
            if counts and self.nonfinite == "raise":
                raise Refused(NonFiniteError, counts)
            if counts:
                self.skips, self.consecutive = self.skips + 1, self.consecutive + 1
                return Report(self.step_count, lr, norm, clip, skipped=True, nonfinite=counts)
        for name, g in taken.items():
            how = {"scale": scale * clips[name], "max_value": max_value}
            self._update(self.leaves[name], g, {**numbers[name], **how})
        if taken:
            self.step_count, self.consecutive = number, 0
        return Report(self.step_count, lr, norm, clip, skipped=False, nonfinite={})

    def _check_coefficients(self, name: str, numbers: Values, scale: float) -> None:
        """Numbers are in range at every step, and finite once rounded to the parameter's type."""
        leaf = self.leaves[name]
        if "eps" in numbers:
            expect(numbers["eps"] >= EPS_MIN[leaf.array.dtype], ValueError)
        if self.structural.get("nesterov"):
            expect(numbers["momentum"] > 0.0 and numbers["dampening"] == 0.0, ValueError)
        independent = self.structural.get("independent", False)
        found = self.formula.coefficients(numbers, leaf.step + 1, independent=independent)
        if "history" in leaf.state:
            beta = numbers["betas"][0]
            expect(beta > 0.0, ValueError)
            found.append(beta / (leaf.state["history"][2] if leaf.step else beta))
        expect(np.isfinite(np.array([scale, *found]).astype(leaf.array.dtype)).all(), ValueError)

    def _count_refused(self, g: Array, factor: float, max_value: float) -> int:
        taken = reference.clip_value(g.dtype.type(factor) * g, max_value)
        return int(np.sum(~np.isfinite(g) | self.formula.refuses(np.abs(taken))))

    def _update(self, leaf: Leaf, g: Array, numbers: Values) -> None:
        leaf.step += 1
        options = {**numbers, **self.structural}
        new = self.formula.define(leaf.array, g, leaf.state, leaf.step, options)
        for array, values in zip([leaf.array, *leaf.state.values()], new, strict=True):
            array[...] = values

    def reset(self, match: Any = None) -> None:
        for name in self.matching("*" if match is None else match):
            self._clear(self.leaves[name])
        if match is None:
            self.step_count = self.skips = self.consecutive = 0

    def _clear(self, leaf: Leaf) -> None:
        leaf.step = 0
        for array in (leaf.state or {}).values():
            array[...] = 0.0

    def rebind(self, params: Mapping[str, Array]) -> None:
        expect(params.keys() == self.leaves.keys(), ValueError)
        self._check_adoptable(params)
        self._check_tied(set(self.trains()), params)
        for name, array in copy.deepcopy(dict(params)).items():
            self.leaves[name].array = array
        self.rebound = set()

    def _check_adoptable(self, params: Mapping[str, Array]) -> None:
        """New arrays of parameters with state have the same shape and type."""
        for name, leaf in self.leaves.items():
            if leaf.state is not None:
                expect(params[name].dtype in EPS_MIN, TypeError)
                alike = (params[name].shape, params[name].dtype) == (
                    leaf.array.shape,
                    leaf.array.dtype,
                )
                expect(alike, ValueError)

    def save(self, *, copied: bool = True) -> Saved:
        """Groups are replaced when they change, so only counters and arrays need copies."""
        state = {n: copy.copy(leaf) for n, leaf in self.leaves.items() if leaf.state is not None}
        state = copy.deepcopy(state) if copied else state
        counts = self.step_count, self.skips, self.consecutive
        average = self.average
        if average is not None:
            kept = {name: copy.copy(leaf) for name, leaf in average.leaves.items()}
            average = replace(average, leaves=copy.deepcopy(kept) if copied else kept)
        return Saved(self.rule, self.structural, counts, self.groups, state, average)

    def load(self, saved: Saved, hyperparameters: str, *, strict: bool) -> Loaded:
        groups, changed, mismatched = self.groups, {}, False
        if hyperparameters == "saved":
            mismatched = (saved.rule, saved.structural) != (self.rule, self.structural)
            try:
                groups = self._merged(saved)
                changed = self._changed(groups)
            except Refused:
                mismatched = True
        trains = self.trains(groups)
        common = [name for name in self.leaves if name in saved.state]
        fitting = {
            name: saved.state[name]
            for name in common
            if self._fits(name, saved.state[name].state, cascade(groups, name))
        }
        mismatched = mismatched or len(fitting) < len(common)
        missing = tuple(name for name in trains if name not in saved.state)
        unexpected = tuple(name for name in saved.state if name not in self.leaves)
        missing += ("ema",) * (self.average is not None and saved.average is None)
        unexpected += ("ema",) * (self.average is None and saved.average is not None)
        averages = None
        if self.average is not None and saved.average is not None:
            averages, differs = self._fitting_averages(saved.average, trains)
            mismatched = mismatched or differs
            old, new = self.average.decay, saved.average.decay
            if averages is not None and hyperparameters == "saved" and old != new:
                changed["ema.decay"] = old, new
        expect(not strict or not (mismatched or missing or unexpected), ValueError)
        self.configure(groups, [n for n in fitting if self.leaves[n].state is None])
        self.step_count, self.skips, self.consecutive = saved.counts
        for name in set(saved.groups[0].names) & set(self.leaves) - set(saved.state) - set(trains):
            self._clear(self.leaves[name])
        for name, theirs in fitting.items():
            self.leaves[name].step = theirs.step
            for key, array in theirs.state.items():
                self.leaves[name].state[key][...] = array
        if averages is not None:
            self.average.count = saved.average.count
            self.average.decay = changed.get("ema.decay", (0, self.average.decay))[1]
            for name, theirs in averages.items():
                mine = self.average.leaves.setdefault(name, Leaf(np.zeros_like(theirs.array)))
                mine.step, mine.array[...] = theirs.step, theirs.array
        return Loaded(saved.counts[0], missing, unexpected, mismatched, changed)

    def _fitting_averages(
        self, saved: Average, trains: Mapping[str, Values]
    ) -> tuple[dict[str, Leaf] | None, bool]:
        """The saved averages that fit, None if none can, and whether any does not."""
        if saved.bias_correction != self.average.bias_correction:
            return None, True
        fitting = {}
        for name, leaf in saved.leaves.items():
            here = self.leaves.get(name)
            alike = here and (here.array.shape, here.array.dtype) == (
                leaf.array.shape,
                leaf.array.dtype,
            )
            if alike:
                fitting[name] = leaf
        return fitting, len(fitting) < len(saved.leaves) or not trains.keys() <= saved.leaves.keys()

    def _merged(self, saved: Saved) -> list[Group]:
        """The saved groups; each saved callable is replaced by the callable in its place here."""

        def merged(recorded: Any, mine: Any) -> Any:
            expect(callable(mine) or not callable(recorded), ValueError)
            return mine if callable(recorded) else recorded

        expect(saved.rule == self.rule, ValueError)
        groups = []
        for i, group in enumerate(saved.groups):
            here = self.groups[i].values if i < len(self.groups) else {}
            values = {}
            for key, value in group.values.items():
                if key == "betas":
                    pair = here.get(key, (None, None))
                    values[key] = tuple(merged(*both) for both in zip(value, pair, strict=True))
                else:
                    values[key] = merged(value, here.get(key))
            names = tuple(name for name in self.leaves if i == 0 or name in group.names)
            groups.append(Group(names, values, "*" if i == 0 else None))
        return groups

    def _changed(self, groups: Sequence[Group]) -> Values:
        changed: Values = {}
        if len(groups) != len(self.groups):
            changed["number of groups"] = len(self.groups), len(groups)
        for i, (old, new) in enumerate(zip(self.groups, groups, strict=False)):
            if old.names != new.names:
                changed[f"groups[{i}].names"] = old.names, new.names
            for key in old.values.keys() | new.values.keys():
                both = old.values.get(key), new.values.get(key)
                if both[0] != both[1]:
                    changed[f"groups[{i}].{key}"] = both
        return changed

    def _fits(self, name: str, saved: dict[str, Array], values: Values) -> bool:
        p, state = self.leaves[name].array, self.leaves[name].state
        keys = self.state_keys(values) if state is None else tuple(state)
        moments = (x for key, x in saved.items() if key != "history")
        alike = ((x.shape, x.dtype) == (p.shape, p.dtype) for x in moments)
        return tuple(saved) == keys and all(alike)

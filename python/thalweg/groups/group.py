"""Parameter groups: who gets which hyperparameters.

Groups cascade. Group 0 holds the constructor's values and matches every parameter; each later group
that matches a parameter applies in order, and later ones win key by key. Parameters that the same
groups match form a class, which is what the native core knows of groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex, TypeAlias

import numpy as np

from thalweg import _core
from thalweg.groups.matching import Match, Matching, Names
from thalweg.groups.spellings import SPELLINGS
from thalweg.schedule.base import Schedule

if TYPE_CHECKING:
    from thalweg.optimizer import Optimizer

__all__ = ["Group", "Kept", "Match", "Number", "Real"]

Real: TypeAlias = SupportsFloat | SupportsIndex
"""A number of Python, NumPy or another library; NumPy's are no floats for a type checker."""

Number: TypeAlias = Real | Callable[[int], Real]
"""A hyperparameter: a number, or a callable of the 1-based step that returns one."""

Kept: TypeAlias = float | Callable[[int], Real]
"""A hyperparameter once it was checked."""

DECAYS = {"weight_decay": "AdamW and SGDW", "l2": "Adam and SGD"}

GROUP_KEYS = ("lr_scale", "frozen", "name")
OPTIONS = ("amsgrad", "nesterov", "independent", "maximize", "nonfinite")


class Group:
    """A parameter group, edited live: ``opt.groups[1].weight_decay = 0.1``.

    Attributes are the keys the group sets: any numeric hyperparameter of the optimizer (a number or
    a callable of the step), ``lr_scale`` (multiplied over the matching groups), ``frozen`` and
    ``name``. ``match`` and ``names`` say which parameters it is for, and cannot be changed.
    A value is checked when it is set; one that is refused changes nothing. Deleting an attribute
    leaves it to the other groups. A group with an ``lr`` leaves the schedule of the others, and
    what ``opt.lr`` is set to; ``lr_scale`` follows both.
    """

    __slots__ = ("_names", "_owner", "_values", "match")

    match: Match | Names
    """As it was given; after loading, the names that were saved."""

    def __init__(
        self,
        owner: Optimizer,
        match: Match | Names,
        names: Iterable[str],
        values: dict[str, Any],
    ) -> None:
        object.__setattr__(self, "_owner", owner)
        object.__setattr__(self, "match", match)
        object.__setattr__(self, "_names", tuple(names))
        object.__setattr__(self, "_values", values)

    _owner: Optimizer | None
    _names: tuple[str, ...]
    _values: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters that it matches."""
        return self._names

    def keys(self) -> list[str]:
        """The keys that it sets."""
        return list(self._values)

    def __getattr__(self, key: str) -> Any:
        # A copy asks for private attributes before it has any.
        if key.startswith("_") or key not in self._values:
            raise AttributeError(
                f"this group does not set {key!r}; opt.resolve(name) shows what applies"
            )
        return self._values[key]

    def __setattr__(self, key: str, value: Any) -> None:
        if key in ("match", "names"):
            raise AttributeError(f"{key!r} of a group is fixed when the optimizer is made")
        owner = self._of()
        checked = check_value(owner.rule, key, value)
        owner._edit(self, {**self._values, key: checked})

    def __delattr__(self, key: str) -> None:
        owner = self._of()
        if self is owner.groups[0] and key in owner.rule.keys:
            raise AttributeError(f"group 0 holds the values of all parameters; {key!r} stays")
        if key not in self._values:
            raise AttributeError(f"this group does not set {key!r}")
        owner._edit(self, {k: value for k, value in self._values.items() if k != key})

    def _of(self) -> Optimizer:
        if self._owner is None:
            raise AttributeError(
                "this group is no longer one of its optimizer's: loading a state "
                "dict replaced the groups; see opt.groups"
            )
        return self._owner

    def _over(self, added: Matching, params: Matching) -> Group:
        """The same group of an optimizer with more parameters."""
        match = self.match
        more = () if isinstance(match, Names) else added.fitting(match)
        return Group(self._of(), match, params.ordered((*self._names, *more)), self._values)

    def _become(self, other: Group) -> None:
        """Take over what another group of the same optimizer says."""
        for key in ("match", "_names", "_values"):
            object.__setattr__(self, key, getattr(other, key))

    def _retire(self) -> None:
        object.__setattr__(self, "_owner", None)

    def __repr__(self) -> str:
        values = ", ".join(f"{key}={value!r}" for key, value in self._values.items())
        return f"Group({values}, {len(self._names)} arrays)"


@dataclass(frozen=True)
class Rule:
    """What an optimizer class has: its name and the keys of its hyperparameters."""

    name: str
    keys: tuple[str, ...]

    @property
    def decay(self) -> str:
        """The key of its decay."""
        return "weight_decay" if "weight_decay" in self.keys else "l2"

    @property
    def options(self) -> tuple[str, ...]:
        """What its constructor takes that holds for all parameters."""
        own = {"amsgrad": "betas", "nesterov": "momentum", "independent": "weight_decay"}
        return tuple(key for key in OPTIONS if own.get(key, "lr") in self.keys)


def check_value(rule: Rule, key: str, value: Any) -> Any:
    """`value` as a group keeps it.

    Raises
    ------
    TypeError
        For a key the rule does not have, or a value of the wrong type.
    ValueError
        For a value out of range.
    """
    if key == "name":
        if not isinstance(value, str):
            raise TypeError(f"name must be a string, got {value!r}")
        return value
    if key == "frozen":
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"frozen must be True or False, got {value!r}")
        return bool(value)
    if key == "betas" and key in rule.keys:
        scalar = isinstance(value, str) or (isinstance(value, np.ndarray) and value.ndim == 0)
        if scalar or not isinstance(value, Sequence | np.ndarray):
            raise TypeError(f"betas must be two numbers or callables, got {value!r}")
        if len(value) != 2:
            raise ValueError(f"betas must be two numbers or callables, got {value!r}")
        return tuple(check_number(f"betas[{i}]", beta) for i, beta in enumerate(value))
    if key == "lr_scale" or key in rule.keys:
        return check_number(key, value)
    raise TypeError(unknown_key(rule, key))


def unknown_key(rule: Rule, key: str) -> str:
    """Why a group cannot set `key`, and what it can."""
    if key in rule.options:
        return f"{key!r} holds for all parameters; pass it to {rule.name}(...)"
    return _unknown(rule, key, [*rule.keys, *GROUP_KEYS])


def unknown_argument(rule: Rule, key: str, known: Sequence[str]) -> str:
    """Why a constructor does not take `key`, and what it takes."""
    if key in GROUP_KEYS:
        return f"{key!r} is a key of a group: groups=[{{'match': ..., {key!r}: ...}}]"
    return _unknown(rule, key, known)


def _unknown(rule: Rule, key: str, known: Sequence[str]) -> str:
    message = f"{rule.name} has no {key!r}"
    if key in DECAYS:
        return f"{message}: its decay is {rule.decay!r}; {key!r} is for {DECAYS[key]}"
    ours = SPELLINGS.get(key)
    near = [ours] if ours in known else get_close_matches(str(key), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{message}; it has {', '.join(known)}{hint}"


def check_number(key: str, value: Any) -> Kept:
    """`value` as a number in range, or a callable of the step.

    Raises
    ------
    TypeError, ValueError
        For another type, a class in place of a schedule, or a number out of range.
    """
    if isinstance(value, type) and issubclass(value, Schedule):
        name = value.__name__
        raise TypeError(f"{key} is the class {name} itself; call it, as schedule.{name}(...)")
    return value if callable(value) else _core.check_hyperparameter(key, value)


class Cascade:
    """The classes that a list of groups makes of the parameters.

    `classes[0]` is group 0 by itself; every parameter is in the class of the groups that match it.
    """

    def __init__(self, groups: Sequence[Group], names: Iterable[str]) -> None:
        self.groups = groups
        matching: dict[str, list[int]] = {name: [] for name in names}
        for i, group in enumerate(self.groups):
            for name in group.names:
                matching[name].append(i)
        classes: dict[tuple[int, ...], int] = {(0,): 0}
        self._class = {
            name: classes.setdefault(tuple(found), len(classes)) for name, found in matching.items()
        }
        self.classes = list(classes)
        self._within: list[list[int]] = [[] for _ in self.groups]
        for position, found in enumerate(self.classes):
            for i in found:
                self._within[i].append(position)

    @property
    def groups(self) -> Sequence[Group]:
        """The groups; others that say the same may take their place."""
        return self._groups

    @groups.setter
    def groups(self, groups: Sequence[Group]) -> None:
        self._groups = groups
        self._positions = {id(group): i for i, group in enumerate(groups)}

    def matching(self, name: str) -> tuple[int, ...]:
        """Positions of the groups that match a parameter."""
        return self.classes[self._class[name]]

    def trains(self) -> list[str]:
        """Names of the parameters that are not frozen."""
        frozen = [self._frozen(matching) for matching in self.classes]
        return [name for name, position in self._class.items() if not frozen[position]]

    def _frozen(self, matching: tuple[int, ...]) -> bool:
        told = (self.groups[i]._values for i in reversed(matching))
        return next((bool(values["frozen"]) for values in told if "frozen" in values), False)

    def assignment(self) -> list[int]:
        """Class of each parameter, in order."""
        return list(self._class.values())

    def values(self) -> list[dict[str, Any]]:
        """The classes as the core takes them."""
        own = [group._values for group in self.groups]
        return [native(resolve([own[i] for i in matching])) for matching in self.classes]

    def edited(self, group: Group, values: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
        """The classes that a group is in, by position, with other `values` in place of its own."""
        edited = self._positions[id(group)]

        def resolved(matching: tuple[int, ...]) -> dict[str, Any]:
            own = (values if i == edited else self.groups[i]._values for i in matching)
            return native(resolve(list(own)))

        within = self._within[edited]
        return [(position, resolved(self.classes[position])) for position in within]


def resolve(matching: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What groups come to, later ones winning; ``lr_scale`` is the tuple of all of them."""
    resolved: dict[str, Any] = {"frozen": False}
    for values in matching:
        resolved.update(values)
    resolved.pop("name", None)
    resolved["lr_scale"] = tuple(v["lr_scale"] for v in matching if "lr_scale" in v)
    return resolved


def native(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The same with each beta by itself."""
    flat = {key: value for key, value in resolved.items() if key != "betas"}
    if "betas" in resolved:
        flat["betas[0]"], flat["betas[1]"] = resolved["betas"]
    return flat

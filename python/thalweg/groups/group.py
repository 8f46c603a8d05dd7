"""Parameter groups: who gets which hyperparameters.

Groups cascade. Group 0 holds the constructor's values and matches every parameter; each later group
that matches a parameter applies in order, and later ones win key by key. Parameters that the same
groups match form a class, which is what the native core knows of groups.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Protocol

from thalweg.groups.values import check_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from thalweg.groups.matching import Match, Names
    from thalweg.groups.rule import Rule

__all__ = ["Group", "Owner", "become", "retire", "set_values", "values_of"]


class Owner(Protocol):
    """What groups are of."""

    rule: Rule

    @property
    def groups(self) -> Sequence[Group]:
        """Its groups, in order."""

    def edit(self, group: Group, values: dict[str, Any]) -> None:
        """Give a group other values, or change nothing."""


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
        owner: Owner,
        match: Match | Names,
        names: Iterable[str],
        values: dict[str, Any],
    ) -> None:
        object.__setattr__(self, "_owner", owner)
        object.__setattr__(self, "match", match)
        object.__setattr__(self, "_names", tuple(names))
        object.__setattr__(self, "_values", values)

    _owner: Owner | None
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
        owner.edit(self, {**self._values, key: checked})

    def __delattr__(self, key: str) -> None:
        owner = self._of()
        if self is owner.groups[0] and key in owner.rule.keys:
            raise AttributeError(f"group 0 holds the values of all parameters; {key!r} stays")
        if key not in self._values:
            raise AttributeError(f"this group does not set {key!r}")
        owner.edit(self, {k: value for k, value in self._values.items() if k != key})

    def _of(self) -> Owner:
        if self._owner is None:
            raise AttributeError(
                "this group is no longer one of its optimizer's: loading a state "
                "dict replaced the groups; see opt.groups"
            )
        return self._owner

    def __repr__(self) -> str:
        values = ", ".join(f"{key}={value!r}" for key, value in self._values.items())
        return f"Group({values}, {len(self._names)} arrays)"


# Functions, as an attribute of a group is a key that it sets.

values_of: Callable[[Group], dict[str, Any]] = operator.attrgetter("_values")
"""The values of a group by key."""


def set_values(group: Group, values: dict[str, Any]) -> None:
    """Put checked values in the place of a group's."""
    object.__setattr__(group, "_values", values)


def become(group: Group, other: Group) -> None:
    """Have a group say what another one of the same optimizer says."""
    for key in ("match", "_names", "_values"):
        object.__setattr__(group, key, getattr(other, key))


def retire(group: Group) -> None:
    """Take a group from its optimizer."""
    object.__setattr__(group, "_owner", None)

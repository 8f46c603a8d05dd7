"""Parameter groups: hyperparameters for the parameters that a match selects.

Groups cascade. Group 0 holds the constructor's values and matches every parameter. Of all groups
that match a parameter, the last one that sets a key wins. Parameters that the same groups match
form a class; the native core has classes, not groups.
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
    """Owner of groups: the part of `Held` that they use."""

    rule: Rule

    @property
    def groups(self) -> Sequence[Group]:
        """All groups, in order."""

    def edit(self, group: Group, values: dict[str, Any]) -> None:
        """Replace the values of a group, or change nothing on error."""


class Group:
    """A parameter group, edited live: ``opt.groups[1].weight_decay = 0.1``.

    Attributes are the keys that the group sets: any numeric hyperparameter of the optimizer (a
    number or a callable of the step), ``lr_scale`` (multiplied over the matching groups),
    ``frozen``, ``name``, ``rows``, and ``state`` and ``row_steps`` (fixed once a parameter has
    state). ``match`` and ``names`` select the parameters, and cannot be changed. A value is checked
    when it is set; a refused value changes nothing. After an attribute is deleted, the other groups
    decide its value. A group that sets ``lr`` follows neither ``opt.lr`` nor a schedule there; a
    group that sets ``lr_scale`` follows both.
    """

    __slots__ = ("_names", "_owner", "_values", "match")

    match: Match | Names
    """The match as given; after loading, the saved names."""

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
        """Names of the parameters that the group matches."""
        return self._names

    def keys(self) -> list[str]:
        """The keys that the group sets."""
        return list(self._values)

    def __getattr__(self, key: str) -> Any:
        # `copy` looks up private attributes before they are set.
        if key.startswith("_") or key not in self._values:
            raise AttributeError(
                f"{key!r} is not set by this group; opt.resolve(name) has the values of a parameter"
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
            raise AttributeError(
                f"{key!r} cannot be deleted from group 0, which has the values of all parameters"
            )
        if key not in self._values:
            raise AttributeError(f"{key!r} is not set by this group")
        owner.edit(self, {k: value for k, value in self._values.items() if k != key})

    def _of(self) -> Owner:
        if self._owner is None:
            raise AttributeError(
                "this group was replaced when a state dict was loaded; use opt.groups"
            )
        return self._owner

    def __repr__(self) -> str:
        values = ", ".join(f"{key}={value!r}" for key, value in self._values.items())
        return f"Group({values}, {len(self._names)} arrays)"


# These are functions, because each public attribute of a group is a key that it sets.

values_of: Callable[[Group], dict[str, Any]] = operator.attrgetter("_values")
"""The values of a group by key."""


def set_values(group: Group, values: dict[str, Any]) -> None:
    """Replace the values of a group by checked values."""
    object.__setattr__(group, "_values", values)


def become(group: Group, other: Group) -> None:
    """Give `group` the match, names and values of `other`, a group of the same optimizer."""
    for key in ("match", "_names", "_values"):
        object.__setattr__(group, key, getattr(other, key))


def retire(group: Group) -> None:
    """Detach a group from its optimizer; from then on it cannot be edited."""
    object.__setattr__(group, "_owner", None)

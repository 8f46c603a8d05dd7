"""Groups from the constructor's argument: mappings, and ready groups that expand into mappings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from thalweg.groups.group import Group, values_of
from thalweg.groups.matching import Names
from thalweg.groups.ready import ReadyGroup
from thalweg.groups.values import check_value

if TYPE_CHECKING:
    from thalweg.groups.group import Owner
    from thalweg.groups.matching import Matching

__all__ = ["Groups", "extended", "specified"]

Groups: TypeAlias = Sequence[Mapping[str, Any] | ReadyGroup]
"""Type of the constructors' argument `groups`."""


def specified(owner: Owner, groups: Groups, leaves: Matching) -> list[Group]:
    """Groups made from `groups`, whose matches select among `leaves`.

    Raises
    ------
    TypeError, ValueError
        If an item is no group, matches nothing, or has an unknown key or invalid value.
    """
    if isinstance(groups, Mapping | str) or not isinstance(groups, Sequence):
        raise TypeError(f"groups must be a sequence of mappings, got {groups!r}")
    made: list[Group] = []
    for position, given in enumerate(groups):
        what = f"groups[{position}]"
        if isinstance(given, Mapping):
            specifications = [dict(given)]
        elif hasattr(given, "expand"):
            specifications = given.expand(leaves.params, owner.rule.decay)
        else:
            raise TypeError(f"{what} must be a mapping, got {given!r}")
        made += [_group(owner, specification, leaves, what) for specification in specifications]
    return made


def _group(owner: Owner, specification: dict[str, Any], leaves: Matching, what: str) -> Group:
    if "match" not in specification:
        keys = ", ".join(map(str, specification)) or "no key"
        raise TypeError(f"{what} must have 'match' (a glob such as '*.b'), got {keys}")
    match = specification.pop("match")
    values = {key: check_value(owner.rule, key, v) for key, v in specification.items()}
    return Group(owner, match, leaves.select(match, what), values)


def extended(
    owner: Owner, groups: Sequence[Group], added: Matching, params: Matching
) -> list[Group]:
    """Copies of `groups` for the parameters `params`, which include those in `added`."""
    base, *others = groups
    made = [Group(owner, "*", params.params, values_of(base))]
    for group in others:
        match = group.match
        more = () if isinstance(match, Names) else added.fitting(match)
        made.append(Group(owner, match, params.ordered((*group.names, *more)), values_of(group)))
    return made

"""Classes of parameters: those that the same groups match share one set of hyperparameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thalweg.groups.group import values_of
from thalweg.groups.values import native, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thalweg.groups.group import Group

__all__ = ["Cascade"]


class Cascade:
    """The classes into which a list of groups divides the parameters.

    `classes` has, for each class, the positions of the groups that match its parameters.
    `classes[0]` is group 0 alone.
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
        """The groups, in order; a list with the same names and values can replace them."""
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
        told = (values_of(self.groups[i]) for i in reversed(matching))
        return next((bool(values["frozen"]) for values in told if "frozen" in values), False)

    def assignment(self) -> list[int]:
        """Class of each parameter, in the order of the tree."""
        return list(self._class.values())

    def values(self) -> list[dict[str, Any]]:
        """Hyperparameters of each class, in the form that the core takes."""
        own = [values_of(group) for group in self.groups]
        return [native(resolve([own[i] for i in matching])) for matching in self.classes]

    def edited(self, group: Group, values: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
        """Each class that `group` matches: position, and hyperparameters with its new `values`."""
        edited = self._positions[id(group)]

        def resolved(matching: tuple[int, ...]) -> dict[str, Any]:
            own = (values if i == edited else values_of(self.groups[i]) for i in matching)
            return native(resolve(list(own)))

        within = self._within[edited]
        return [(position, resolved(self.classes[position])) for position in within]

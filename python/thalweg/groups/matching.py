"""Selection of parameters by the match of a group.

Names are looked up. A glob is compiled once, and tested only on names with its literal prefix or
suffix. So the time for a model with one group per tensor does not grow with groups times tensors.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property
from typing import Any, TypeAlias

__all__ = ["Match", "Matching", "Names", "compiled", "some"]

Match: TypeAlias = str | Sequence[str] | Callable[[str, Any], bool]
"""Selects parameters: a name or glob, a sequence of them, or a callable of name and array."""

WILD = re.compile(r"[*?\[\]]")


@dataclass(frozen=True)
class Names:
    """A match by exact names; it may be empty, and names without a parameter are allowed."""

    names: tuple[str, ...]


class Matching:
    """Parameters from which a match selects.

    A string that is a key of `known`, by default of `params`, is a name even if it looks like a
    glob.
    """

    def __init__(self, params: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> None:
        self.params = params
        self._known = params if known is None else known

    def select(self, match: Match | Names, what: str) -> list[str]:
        """Names of the parameters that `match` selects; `what` names its origin in messages.

        Raises
        ------
        ValueError
            If the match, or one of its globs, selects nothing.
        TypeError
            If it is not a glob, a list of globs or a callable.
        """
        if isinstance(match, Names):
            return self.ordered(match.names)
        if callable(match):
            names = self.fitting(match)
            if not names:
                raise ValueError(f"{what} matches nothing: {match!r} is false for every parameter")
            return names
        globs = [match] if isinstance(match, str) else match
        if (
            not isinstance(globs, list | tuple)
            or not globs
            or not all(isinstance(glob, str) for glob in globs)
        ):
            raise TypeError(
                f"match of {what} must be a glob, a list of globs, or a callable(name, array), "
                f"got {match!r}"
            )
        found: set[str] = set()
        for glob in globs:
            names = self._glob(glob)
            if not names:
                raise ValueError(
                    f"{what} matches nothing: {glob!r} fits none of {some(self.params)} (names are "
                    f"joined with dots; match is a glob, not a regular expression{_hint(glob)})"
                )
            found.update(names)
        return self.ordered(found)

    def fitting(self, match: Match) -> list[str]:
        """Names of the parameters that `match`, already checked, selects; may be empty."""
        if callable(match):
            return [name for name, array in self.params.items() if match(name, array)]
        globs = [match] if isinstance(match, str) else match
        return self.ordered({name for glob in globs for name in self._glob(glob)})

    def ordered(self, names: Iterable[str]) -> list[str]:
        """The parameters among `names`, without duplicates, in the order of the tree."""
        found = {name for name in names if name in self.params}
        return sorted(found, key=self._place.__getitem__) if len(found) > 1 else list(found)

    def _glob(self, glob: str) -> list[str]:
        """Names that a glob matches, or the one name that `glob` equals."""
        if glob in self._known:
            return [glob] if glob in self.params else []
        wild = [found.start() for found in WILD.finditer(glob)]
        if not wild:
            return [name for name in (glob[1:],) if glob[:1] == "." and name in self.params]
        head, tail = glob[: wild[0]], glob[wild[-1] + 1 :]
        names = self._between(head, tail)
        if glob in (f"{head}*", f"*{tail}"):
            return names
        fits = compiled(glob)
        return [name for name in names if fits(name)]

    def _between(self, head: str, tail: str) -> list[str]:
        """Names that begin with `head`, or, if it is empty, end with `tail`.

        Compared are the name and the name with a dot in front.
        """
        if head:
            names = _beginning(self._sorted, head)
            return names + _beginning(self._sorted, head[1:]) if head[0] == "." else names
        if tail:
            names = [name[::-1] for name in _beginning(self._reversed, tail[::-1])]
            return names + [n for n in (tail[1:],) if tail[0] == "." and n in self.params]
        return list(self.params)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.params)}

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self.params)

    @cached_property
    def _reversed(self) -> list[str]:
        return sorted(name[::-1] for name in self.params)


def _beginning(names: list[str], head: str) -> list[str]:
    """The names that begin with `head`; `names` is sorted."""
    first = bisect_left(names, head)
    return names[first : bisect_right(names, head, first, key=lambda name: name[: len(head)])]


def compiled(glob: str) -> Callable[[str], bool]:
    """Predicate: whether `glob` matches a name, or the name with a dot in front."""
    match = re.compile(translate(glob)).match
    return lambda name: match(name) is not None or match(f".{name}") is not None


def some(names: Iterable[str], between: str = ", ") -> str:
    """The first eight of `names`, for a message."""
    listed = list(names)
    return between.join(listed[:8]) + (f"{between}..." if len(listed) > 8 else "")


def _hint(glob: str) -> str:
    """Advice for a glob with brackets, for a message."""
    if "[" not in glob:
        return ""
    escaped = glob.replace("[", "[[]")
    return f"; [ ] matches one of the characters inside it, {escaped!r} matches brackets"

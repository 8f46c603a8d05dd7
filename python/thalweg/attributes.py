"""A base class that refuses to set attributes nothing reads, and says what to do instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thalweg.errors import did_you_mean, is_ours

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Fixed", "from_the_start"]


class Fixed:
    """Base of classes with a fixed set of public attributes.

    Private names and properties with a setter can be set. A callable can replace a method, for
    tools that watch calls. A user's subclass can declare any attribute. It can also set any
    undeclared one except the names in `_ways`, which a reader would expect thalweg to use.
    """

    __slots__ = ()

    @classmethod
    def _ways(cls) -> Mapping[str, str]:
        """Names that cannot be set, with what to do instead; users' subclasses included."""
        return {}

    @classmethod
    def _hints(cls) -> Mapping[str, str]:
        """The same, for names that a user's subclass may set."""
        return {}

    if not TYPE_CHECKING:  # with `__setattr__`, a type checker accepts every assignment

        def __setattr__(self, key: str, value: Any) -> None:
            # A property with a setter skips the check: programs set `opt.lr` in every step.
            if key[:1] != "_" and getattr(getattr(type(self), key, None), "fset", None) is None:
                _check(self, key, value)
            super().__setattr__(key, value)


def from_the_start(made: str, *names: str, **spellings: str) -> dict[str, str]:
    """Entries of `_ways` for arguments of the constructor `made` that cannot change later.

    `spellings` maps other names to arguments.
    """
    arguments = {**{name: name for name in names}, **spellings}
    return {
        key: f"it is fixed when the object is made; make another, {made}(..., {name}=...)"
        for key, name in arguments.items()
    }


def _check(obj: Fixed, key: str, value: Any) -> None:
    cls = type(obj)
    declared = next((base for base in cls.__mro__ if key in vars(base)), None)
    if declared is not None and not is_ours(declared.__module__):
        return
    attribute = None if declared is None else vars(declared)[key]
    if callable(attribute) and callable(value):
        return
    ways = cls._ways()
    if declared is not None or is_ours(cls.__module__):
        ways = {**cls._hints(), **ways}
    elif key not in ways:
        return
    way = ways.get(key) or _unread(cls, key, attribute)
    raise AttributeError(f"{key!r} cannot be set on {cls.__name__}: {way}")


def _unread(cls: type[Fixed], key: str, attribute: Any) -> str:
    if callable(attribute):
        return "it is a method"
    if attribute is not None:
        return "it is read-only"
    names = [name for name in {*dir(cls), *cls._ways()} if not name.startswith("_")]
    return f"it has no such attribute{did_you_mean(key, sorted(names))}"

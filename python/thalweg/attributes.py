"""Attributes of objects: assignments that nothing would read are refused, with what to do."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Fixed", "from_the_start"]


class Fixed:
    """Base of classes whose objects have the attributes that they have, and no others.

    Allowed are private names, properties with a setter, a callable in the place of a method, as
    tools that watch calls need it, and in a subclass of the user's whatever it declares or sets,
    but for names that it would expect to be read here.
    """

    __slots__ = ()

    @classmethod
    def _ways(cls) -> Mapping[str, str]:
        """What to do instead of setting a name, in subclasses of the user's too."""
        return {}

    @classmethod
    def _hints(cls) -> Mapping[str, str]:
        """The same for names that a subclass of the user's may have for itself."""
        return {}

    if not TYPE_CHECKING:  # for which every name could be set

        def __setattr__(self, key: str, value: Any) -> None:
            # At once for what is set in every step, such as `opt.lr`.
            if key[:1] != "_" and getattr(getattr(type(self), key, None), "fset", None) is None:
                _check(self, key, value)
            super().__setattr__(key, value)


def from_the_start(made: str, *names: str, **spellings: str) -> dict[str, str]:
    """Arguments that are fixed when one is made; `spellings` are other names of them."""
    arguments = {**{name: name for name in names}, **spellings}
    return {
        key: f"it is fixed from the start; make another, {made}(..., {name}=...)"
        for key, name in arguments.items()
    }


def _check(obj: Fixed, key: str, value: Any) -> None:
    cls = type(obj)
    declared = next((base for base in cls.__mro__ if key in vars(base)), None)
    if declared is not None and not _is_ours(declared):
        return
    attribute = None if declared is None else vars(declared)[key]
    if callable(attribute) and callable(value):
        return
    ways = cls._ways()
    if declared is not None or _is_ours(cls):
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
    near = get_close_matches(key, sorted(names), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"nothing would read it{hint}"


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "thalweg"

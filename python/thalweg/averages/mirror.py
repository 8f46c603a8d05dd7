"""What users see of arrays that mirror parameters."""

from __future__ import annotations

import copy as copies
from typing import TYPE_CHECKING, Any, ClassVar

from thalweg.attributes import Fixed, from_the_start

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

    from thalweg.averages.mirrored import Mirrored

__all__ = ["Mirror"]


class Mirror(Fixed):
    """One array for each parameter of a tree, or for each that an optimizer trains."""

    kind: ClassVar[str]
    """What it is, in saved state."""
    array_key: ClassVar[str]
    """What its arrays are called there."""

    _mirrored: Mirrored
    """The arrays, and what works on them. What is attached to an optimizer is this."""

    @classmethod
    def _ways(cls) -> Mapping[str, str]:
        return from_the_start(cls.__name__, "name")

    def state_dict(self, *, copy: bool = True) -> dict[str, Any]:
        """What it remembers, as plain dicts, numbers and arrays.

        Parameters
        ----------
        copy : bool, default True
            False gives the live arrays instead of copies.
        """
        return self._mirrored.state_dict(copy=copy)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave. Everything is checked before anything is changed.

        Raises
        ------
        ValueError
            If it does not fit, listing every difference.
        """
        self._mirrored.load(state_dict)

    def __copy__(self) -> Self:
        # The same arrays, and counters of its own.
        made = type(self).__new__(type(self))
        made.__dict__.update({**self.__dict__, "_mirrored": copies.copy(self._mirrored)})
        return made

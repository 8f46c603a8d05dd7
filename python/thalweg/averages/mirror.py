"""The public base class of `Accumulator` and `EMA`."""

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
    """Kind of the object in saved state."""
    array_key: ClassVar[str]
    """Name of its arrays in saved state."""

    _mirrored: Mirrored
    """The arrays, with the methods that change them; this object is attached to the optimizer."""

    @classmethod
    def _ways(cls) -> Mapping[str, str]:
        return from_the_start(cls.__name__, "name")

    def state_dict(self, *, copy: bool = True) -> dict[str, Any]:
        """Arrays, counters and settings, as plain dicts, numbers and arrays.

        Parameters
        ----------
        copy : bool, default True
            False returns the live arrays instead of copies.
        """
        return self._mirrored.state_dict(copy=copy)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a result of `state_dict`. Everything is checked before the first change.

        Raises
        ------
        ValueError
            If it does not fit, with a list of all differences; nothing is changed.
        """
        self._mirrored.load(state_dict)

    def __copy__(self) -> Self:
        # The copy shares the arrays and has its own counters.
        made = type(self).__new__(type(self))
        made.__dict__.update({**self.__dict__, "_mirrored": copies.copy(self._mirrored)})
        return made

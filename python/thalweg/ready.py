"""Ready groups: what models often need, made into groups once the parameters are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thalweg.groups import Names

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NoDecay", "ReadyGroup", "no_decay"]


class ReadyGroup(Protocol):
    """Something that becomes group specifications once the parameters are known."""

    def expand(self, params: Mapping[str, Any], decay: str) -> list[dict[str, Any]]:
        """Group specifications; `decay` is the rule's decay, ``weight_decay`` or ``l2``."""


@dataclass(frozen=True)
class NoDecay:
    """See `no_decay`."""

    max_ndim: int = 1

    def expand(self, params: Mapping[str, Any], decay: str) -> list[dict[str, Any]]:
        """Group specification for the parameters that `params` holds."""
        names = tuple(name for name, array in params.items() if np.ndim(array) <= self.max_ndim)
        if not names:
            raise ValueError(
                f"no_decay(max_ndim={self.max_ndim}) matches nothing: every parameter has more "
                "dimensions"
            )
        return [{"match": Names(names), "name": "no_decay", decay: 0.0}]


def no_decay(max_ndim: int = 1) -> NoDecay:
    """Ready group: no decay for parameters of at most `max_ndim` dimensions.

    Biases and normalisation scales are vectors or scalars; decaying them only hurts. It switches
    off whichever decay the optimizer has, ``weight_decay`` or ``l2``.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> params = {"w": np.ones((2, 2)), "b": np.ones(2)}
    >>> opt = thalweg.AdamW(params, groups=[thalweg.no_decay()])
    >>> opt.resolve("w")["weight_decay"], opt.resolve("b")["weight_decay"]
    (0.01, 0.0)
    """
    return NoDecay(max_ndim)

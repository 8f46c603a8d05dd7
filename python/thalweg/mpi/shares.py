"""Which elements of each parameter belong to which rank.

The parameters in the order of the tree are one long line, cut into one piece for each rank. A piece
begins with a parameter, or at a multiple of the block in which norms are summed, so that no block
is divided.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from thalweg import _core

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["BLOCK", "cut"]

BLOCK = _core.SUM_BLOCK


def cut(sizes: Mapping[str, int], whole: Sequence[str], ranks: int) -> dict[str, tuple[int, ...]]:
    """For each parameter, where the share of each rank begins, and its size at the end.

    Rank `r` has the elements from entry `r` to entry `r + 1`. The parameters in `whole` are not
    divided.
    """
    names, undivided = list(sizes), frozenset(whole)
    ends = list(accumulate(sizes.values()))
    total = ends[-1] if ends else 0
    bounds = {name: [0] for name in names}
    first = (0, 0)  # the cut before: position of the parameter, element
    for rank in range(1, ranks):
        target = total * rank // ranks
        at = min(bisect_right(ends, target), len(names))
        if at < len(names):
            name, begin = names[at], ends[at] - sizes[names[at]]
            place = (at, _nearest(target - begin, sizes[name], name not in undivided))
        else:
            place = (at, 0)
        first = max(first, place)
        for position, name in enumerate(names):
            end = 0 if position > first[0] else first[1] if position == first[0] else sizes[name]
            bounds[name].append(end)
    return {name: (*bounds[name], sizes[name]) for name in names}


def _nearest(target: int, size: int, divisible: bool) -> int:
    """The place nearest to `target` where a parameter of this size may be cut.

    The last piece has a block at least, so that its state has the format of the whole.
    """
    places = {0, size}
    if divisible:
        most = max(0, size - BLOCK) // BLOCK
        places |= {BLOCK * min(most, k) for k in (target // BLOCK, target // BLOCK + 1)}
    return min(sorted(places), key=lambda place: abs(place - target))

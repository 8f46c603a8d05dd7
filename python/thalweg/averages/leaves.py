"""The tree in which leaves, the gradients of micro-batches, are added.

A span is a pair of first leaf and width. Two neighbouring spans of one width join where the left
one begins at a multiple of both together; what is left over is joined from the right. So the sum of
all leaves has one order, however the leaves are cut into spans.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Span", "can_join", "merges", "spans"]

Span: TypeAlias = tuple[int, int]
"""First leaf and number of leaves."""


def can_join(left: Span, right: Span) -> bool:
    """Whether two neighbouring spans are the halves of a node of the tree."""
    return left[1] == right[1] and left[0] % (2 * left[1]) == 0 and sum(left) == right[0]


def spans(leaves: range) -> list[Span]:
    """What remains of `leaves` when all that can be joined is joined."""
    stack: list[Span] = []
    for leaf in leaves:
        node = (leaf, 1)
        while stack and can_join(stack[-1], node):
            start, width = stack.pop()
            node = (start, 2 * width)
        stack.append(node)
    return stack


def merges(given: Sequence[Span]) -> list[tuple[int, int]]:
    """The additions, in order, that join all spans: positions of the left one and the right one.

    The sum takes the place of the left one.
    """
    made: list[tuple[int, int]] = []
    stack: list[tuple[int, Span]] = []
    for right, span in enumerate(given):
        position, node = right, span
        while stack and can_join(stack[-1][1], node):
            left, (start, width) = stack.pop()
            made.append((left, position))
            position, node = left, (start, 2 * width)
        stack.append((position, node))
    while len(stack) > 1:
        right, _ = stack.pop()
        made.append((stack[-1][0], right))
    return made

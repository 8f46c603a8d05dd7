"""Plain text that stays aligned, whatever names are in it."""

from __future__ import annotations

import sys
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

LONGEST = 60
"""Columns of the terminal that a name may take."""
ENDS = LONGEST // 2 - 2


def clean(text: str) -> str:
    """A name on one line, which one can tell from others: as it is, or as its repr."""
    if not text.isprintable() or text != text.strip() or not text:
        text = repr(text)
    if _width(text) <= LONGEST:
        return text
    return f"{_begin(text)}...{_begin(text[::-1])[::-1]}"


def _begin(text: str) -> str:
    """As much of a text as `ENDS` columns have room for."""
    end, room = 0, ENDS - _columns(text[0])
    while room >= 0:
        end += 1
        room -= _columns(text[end])
    return text[:end]


def aligned(rows: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> list[str]:
    """Lines with columns as wide as what is in them, those of `numbers` on the right."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            _padded(cell, width, right=i in numbers)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _padded(cell: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _width(text: str) -> int:
    """Columns of the terminal."""
    if text.isascii():
        return len(text)
    return sum(_columns(letter) for letter in text)


def _columns(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me"):
        return 0  # it is drawn over the letter before it
    return 2 if unicodedata.east_asian_width(letter) in ("W", "F") else 1


def show(lines: Iterable[str]) -> None:
    """Print lines, with escapes for what the output cannot encode."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        print(line.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()

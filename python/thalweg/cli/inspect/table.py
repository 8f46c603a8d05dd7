"""Plain-text tables that stay aligned with any names in them."""

from __future__ import annotations

import sys
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

LONGEST = 60
"""Largest width of a name, in columns of the terminal."""
ENDS = LONGEST // 2 - 2


def clean(text: str) -> str:
    """An unambiguous form of a name on one line: the name or its repr, shortened in the middle."""
    if not text.isprintable() or text != text.strip() or not text:
        text = repr(text)
    if _width(text) <= LONGEST:
        return text
    return f"{_begin(text)}...{_begin(text[::-1])[::-1]}"


def _begin(text: str) -> str:
    """The beginning of a text that fits in `ENDS` columns."""
    end, room = 0, ENDS - _columns(text[0])
    while room >= 0:
        end += 1
        room -= _columns(text[end])
    return text[:end]


def aligned(rows: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> list[str]:
    """Rows as lines with aligned columns; the columns in `numbers` are aligned to the right."""
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
    """Width in columns of the terminal."""
    if text.isascii():
        return len(text)
    return sum(_columns(letter) for letter in text)


def _columns(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me"):
        return 0  # drawn over the letter before it
    return 2 if unicodedata.east_asian_width(letter) in ("W", "F") else 1


def show(lines: Iterable[str]) -> None:
    """Print lines, with escapes for characters that the output cannot encode."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        print(line.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()

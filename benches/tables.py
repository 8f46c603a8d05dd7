"""Plain tables, printed row by row as the rows are measured."""

from __future__ import annotations

FIRST_WIDTH = 32


class Table:
    """A name and numbers a row; an int is a count or nanoseconds, a float a ratio or the like."""

    def __init__(self, name: str, *columns: str) -> None:
        self._widths = [max(len(column), 9) for column in columns]
        self._print(name, columns)

    def row(self, name: str, *cells: float) -> None:
        """Print one row."""
        self._print(name, [_text(cell) for cell in cells])

    def _print(self, name: str, cells: tuple[str, ...] | list[str]) -> None:
        pairs = zip(cells, self._widths, strict=True)
        numbers = "".join(f"  {cell:>{width}}" for cell, width in pairs)
        print(f"{name:<{FIRST_WIDTH}}{numbers}", flush=True)


def _text(cell: float) -> str:
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.2f}"

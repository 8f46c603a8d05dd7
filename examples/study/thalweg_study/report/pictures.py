"""Pictures as bytes: equal figures give equal bytes, in both formats."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

DOTS_AN_INCH = 200
PIXELS_AN_INCH = 104
"""Of the page, so that the usual 10 points are as large as its text."""

MARK = "thalweg study ({})"
"""Stands in files of both formats with the picture's name, so that a later study knows them."""

HEAD = 4096
"""Bytes of a file in which it does."""

LARGEST_SVG = 300_000
"""Bytes; a picture of more lines than that is embedded as PNG, which is smaller then."""


@dataclass(frozen=True)
class Rendered:
    """A picture in both formats, and its size on the page in pixels."""

    png: bytes
    svg: bytes
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The picture as an address that holds all of it; sharp at any size if that is cheap."""
        if len(self.svg) > LARGEST_SVG:
            return f"data:image/png;base64,{b64encode(self.png).decode()}"
        return f"data:image/svg+xml;base64,{b64encode(self.svg).decode()}"


def render(name: str, figure: Figure) -> Rendered:
    """Draw a figure in both formats."""
    # Laid out once: each time again, all moves by a hair, and formats and bytes would differ.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    width, height = figure.get_size_inches() * PIXELS_AN_INCH
    return Rendered(
        png=_save(figure, format="png", metadata={"Software": MARK.format(name)}),
        svg=_save(figure, format="svg", metadata={"Date": None, "Creator": MARK.format(name)}),
        width=round(width),
        height=round(height),
    )


def is_ours(path: Path) -> bool:
    """Tell whether a file is a picture that a study has made, under the name that it gave it."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK.format(path.stem).encode() in file.read(HEAD)


def _save(figure: Figure, **options: Any) -> bytes:
    file = BytesIO()
    # Identifiers in SVG files are random without a salt.
    with mpl.rc_context({"svg.hashsalt": "thalweg", "svg.fonttype": "path"}):
        figure.savefig(file, dpi=DOTS_AN_INCH, facecolor="white", **options)
    return file.getvalue()

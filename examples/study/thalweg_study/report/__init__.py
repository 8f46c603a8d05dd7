"""The report: all findings on one page that needs nothing else, and the pictures as files too.

``pictures`` turns figures into bytes, ``page`` fills ``page.html``, ``style.css`` is how it looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg_study.report.page import compose
from thalweg_study.report.pictures import is_ours, render

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from thalweg_study.findings import Findings
    from thalweg_study.report.pictures import Rendered


def write(findings: Findings, directory: Path) -> Path:
    """Write ``report.html`` and ``pictures/`` into a directory, over what is there.

    Equal findings give equal bytes. Pictures of an earlier report that this has not are removed;
    other files are left alone.

    Parameters
    ----------
    findings : Findings
        What to show.
    directory : Path
        Where to; it is made if need be.

    Returns
    -------
    Path
        That of the page.

    Raises
    ------
    OSError
        If something cannot be written.
    """
    files = {
        picture.name: render(picture.name, picture.figure)
        for _, chapter in findings.chapters
        for picture in chapter.pictures
    }
    _write_pictures(files, directory / "pictures")
    page = directory / "report.html"
    page.write_text(compose(findings, files), encoding="utf-8", newline="\n")
    return page


def _write_pictures(files: Mapping[str, Rendered], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    written = set()
    for name, picture in files.items():
        for ending, content in (("png", picture.png), ("svg", picture.svg)):
            path = folder / f"{name}.{ending}"
            path.write_bytes(content)
            written.add(path)
    for path in {*folder.glob("*.png"), *folder.glob("*.svg")} - written:
        if is_ours(path):
            path.unlink()

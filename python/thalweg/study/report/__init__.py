"""The report: all findings on one page that needs nothing else, and the pictures as files too.

``pictures`` turns figures into bytes, ``page`` fills ``page.html``, ``style.css`` is how it looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg.study.report.page import compose
from thalweg.study.report.pictures import render

if TYPE_CHECKING:
    from pathlib import Path

    from thalweg.study.findings import Findings


def write(findings: Findings, directory: Path) -> Path:
    """Write ``report.html`` and ``pictures/`` into a directory, over what is there.

    Equal findings give equal bytes.

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
    folder = directory / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for _, chapter in findings.chapters:
        for picture in chapter.pictures:
            files[picture.name] = render(picture.figure)
            (folder / f"{picture.name}.png").write_bytes(files[picture.name].png)
            (folder / f"{picture.name}.svg").write_bytes(files[picture.name].svg)
    page = directory / "report.html"
    page.write_text(compose(findings, files), encoding="utf-8", newline="\n")
    return page

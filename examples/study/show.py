"""Show a study in `docs/study.md`: ``python examples/study/show.py DIRECTORY``, its ``--out``.

Its verdicts go into the page and stay beside it as a table; of its pictures the page has those that
it names, which are redrawn with few colours, as those of `schedules.md` are.
"""

from __future__ import annotations

import csv
import re
import shutil
import sys
from pathlib import Path

from PIL import Image

from thalweg_study.typography import typeset

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "study.md"
FOLDER = DOCS / "study"
VERDICTS = FOLDER / "verdicts.csv"
BETWEEN = re.compile(r"(<!-- verdicts -->\n)(.*?)(<!-- end -->)", re.DOTALL)
SIGNS = {"holds": "✓ holds", "does not hold": "✗ does not hold", "undecided": "? undecided"}
WIDTH = 1350
"""Pixels of a picture."""


def table() -> str:
    """Return the verdicts as a table of Markdown."""
    with VERDICTS.open(newline="", encoding="utf-8") as file:
        rows = [
            f"| {row['sentence']} | {SIGNS[row['outcome']]} | {row['figures']} |"
            for row in csv.DictReader(file)
        ]
    return typeset("\n".join(["| claim | verdict | figures |", "|---|---|---|", *rows, ""]))


def main(study: Path) -> None:
    """Take over verdicts and pictures."""
    FOLDER.mkdir(exist_ok=True)
    shutil.copyfile(study / "verdicts.csv", VERDICTS)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BETWEEN.sub(lambda found: found[1] + table() + found[3], page), "utf-8")
    for name in re.findall(r"\(study/([\w-]+\.png)\)", page):
        picture = Image.open(study / "pictures" / name).convert("RGB")
        height = round(picture.height * WIDTH / picture.width)
        small = picture.resize((WIDTH, height), Image.Resampling.LANCZOS).quantize(160)
        small.save(FOLDER / name, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

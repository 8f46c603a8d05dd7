"""The article shows a study as it came out: its verdicts unedited, its pictures all there."""

from __future__ import annotations

import csv
import importlib.util
import re
from pathlib import Path

from thalweg_study.__main__ import _parser
from thalweg_study.claims import CLAIMS

STUDY = Path(__file__).parent.parent
ROOT = STUDY.parent.parent
SCRIPT = importlib.util.spec_from_file_location("show", STUDY / "show.py")
assert SCRIPT is not None
assert SCRIPT.loader is not None
show = importlib.util.module_from_spec(SCRIPT)
SCRIPT.loader.exec_module(show)
PAGE = show.PAGE.read_text(encoding="utf-8")


def verdicts() -> list[dict[str, str]]:
    with show.VERDICTS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_verdicts_of_the_article_are_those_that_were_computed() -> None:
    found = show.BETWEEN.search(PAGE)
    assert found is not None
    assert found[2] == show.table()
    assert len(found[2].splitlines()) == 2 + len(verdicts())


def test_every_claim_has_a_verdict_in_the_article() -> None:
    assert list(dict.fromkeys(row["claim"] for row in verdicts())) == list(CLAIMS)


def test_the_pictures_of_article_and_readme_are_committed_and_no_others() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\]\((?:docs/)?study/([\w-]+\.png)\)", PAGE + readme))
    assert shown == {path.name for path in show.FOLDER.glob("*.png")}
    assert "docs/study/heat-maps-pair.png" in readme


def test_the_article_shows_every_option_and_claim() -> None:
    options = {o for action in _parser()._actions for o in action.option_strings if o[:2] == "--"}
    section = PAGE.partition("\n## The command\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(--[\w-]+)", section, re.MULTILINE)) == options - {"--help"}
    assert all(f"`{name}`" in section for name in CLAIMS)

"""The report: all of it on one page, safe from what it quotes, the same bytes every time."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from browser import Page
from thalweg_study import drawing
from thalweg_study.claim import Chapter, Picture, Table, Verdict
from thalweg_study.findings import Findings
from thalweg_study.report import write

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from browser import Browser

NASTY = """<script>alert("ä'ö")</script> & &amp; {{ 7 * 7 }} <b>"""
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 2
WIDTHS = (1280, 390)
VOID = {"meta", "link", "img", "br"}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class FakeClaim:
    """Stands for a module of claims."""

    NAME: str
    TITLE: str
    QUESTION: str
    SOURCE: str


def curves() -> Figure:
    figure = drawing.figure(9, 3)
    axes = figure.subplots()
    values = np.linspace(0.9, 0.1, 20) + np.linspace(-0.05, 0.05, 3)[:, None]
    for method in ("adam", "adamw"):
        drawing.band(
            axes,
            range(20),
            values,
            label=method,
            colour=drawing.COLOURS[method],
            style=drawing.STYLES[method],
            marker=drawing.MARKERS[method],
        )
    drawing.dress(axes)
    drawing.legend(figure)
    return figure


def small() -> Figure:
    figure = drawing.figure(4.5, 3)
    figure.subplots().plot([1, 3, 2])
    return figure


def findings() -> Findings:
    plain = Chapter(
        verdicts=(Verdict("It is so.", "Holds if so.", "holds", "1.2 (1.0 to 1.4)"),),
        pictures=(Picture("curves", curves(), "Two curves.", "Both fall."),),
        tables=(
            Table("Errors", ("Method", "Error (%)"), (("AdamW", "4.1"), ("Adam + L2", "4.5"))),
            Table("None", ("Method", "Error (%)"), ()),
        ),
        method="First this.\n\nThen that.",
    )
    nasty = Chapter(
        verdicts=(
            Verdict(NASTY, NASTY, "does not hold", NASTY),
            Verdict(LONG, LONG, "undecided", LONG),
        ),
        pictures=(Picture("small", small(), NASTY, NASTY),),
        tables=(),
        method=NASTY,
    )
    return Findings(
        command=f"thalweg-study --quick --out '{LONG}'",
        chapters=(
            (FakeClaim("plain", "A plain claim", "Is it so?", "Somebody, somewhere"), plain),
            (FakeClaim("nasty", NASTY, LONG, NASTY), nasty),
        ),
        facts=(("Data", NASTY), (LONG, LONG)),
        shares=Table(LONG, (LONG, "Share"), ((LONG, "7 %"),)),
    )


@dataclass
class Element:
    """What was read of one: its text is that of all within."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class Reader(HTMLParser):
    """Reads a page strictly: every element is closed, in order."""

    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), tag
        element = Element(tag, dict(attrs))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def named(self, *tags: str) -> list[Element]:
        return [element for element in self.elements if element.tag in tags]


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(findings(), tmp_path_factory.mktemp("report") / "new" / "directory")


def test_the_page_and_both_formats_of_every_picture_are_written(report: Path) -> None:
    assert report.name == "report.html"
    files = contents(report.parent)
    names = {
        f"pictures/{name}.{ending}" for name in ("curves", "small") for ending in ("png", "svg")
    }
    assert set(files) == {"report.html", *names}
    for name in names:
        start = PNG_SIGNATURE if name.endswith(".png") else b"<?xml"
        assert files[name].startswith(start)


def test_the_same_findings_give_the_same_bytes_over_what_was_there(
    report: Path, tmp_path: Path
) -> None:
    (tmp_path / "report.html").write_text("old" * 10**6, encoding="utf-8")
    again = findings()
    for _ in range(2):
        write(again, tmp_path)
        assert contents(tmp_path) == contents(report.parent)


def test_pictures_of_an_earlier_report_go_and_what_else_is_there_stays(tmp_path: Path) -> None:
    found = findings()
    write(found, tmp_path)
    pictures = tmp_path / "pictures"
    mine = {pictures / "mine.png": b"mine", pictures / "notes.txt": b"thalweg study (notes)"}
    mine[pictures / "copy.svg"] = (pictures / "curves.svg").read_bytes()
    for path, content in mine.items():
        path.write_bytes(content)
    (pictures / "directory.png").mkdir()
    write(replace(found, chapters=found.chapters[1:]), tmp_path)
    left = {path for path in pictures.iterdir() if path.is_file()}
    assert left == {*mine, pictures / "small.png", pictures / "small.svg"}
    assert all(path.read_bytes() == content for path, content in mine.items())


def test_nothing_that_is_quoted_becomes_markup(report: Path) -> None:
    page = read(report)
    assert page.named("script", "b") == []
    assert NASTY in page.named("title", "h2")[3].text
    assert page.named("body")[0].text.count(NASTY) >= 10


def test_the_page_points_nowhere_but_into_itself(report: Path) -> None:
    page = read(report)
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            target = element.attributes.get(name) or "data:"
            assert target.startswith("data:") or target.removeprefix("#") in ids
    styles = "".join(element.text for element in page.named("style"))
    assert re.findall(r"url\(|@import|@font-face", styles) == []
    policy = next(e for e in page.named("meta") if "http-equiv" in e.attributes)
    assert str(policy.attributes["content"]).startswith("default-src 'none'; img-src data:;")


def test_who_cannot_see_the_page_can_read_it(report: Path) -> None:
    page = read(report)
    assert page.named("html")[0].attributes["lang"] == "en"
    levels = [int(element.tag[1]) for element in page.named("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert [image.attributes["alt"] for image in page.named("img")] == ["Both fall.", NASTY]
    assert all("scope" in header.attributes for header in page.named("th"))


def test_every_verdict_is_given_in_words_with_its_rule_and_figures(report: Path) -> None:
    text = read(report).named("main")[0].text
    for said in ("holds", "does not hold", "undecided", "Holds if so.", "1.2 (1.0 to 1.4)"):
        assert said in text
    (summary,) = read(report).named("ul")
    assert re.findall(r"\d", summary.text) == ["1", "1", "1"]


def test_times_are_left_out_where_nothing_was_trained(report: Path, tmp_path: Path) -> None:
    heading = "share of the time"
    assert heading in report.read_text(encoding="utf-8")
    page = write(replace(findings(), chapters=(), shares=None), tmp_path)
    assert heading not in page.read_text(encoding="utf-8")


def test_a_picture_of_very_many_dots_does_not_blow_up_the_page(tmp_path: Path) -> None:
    found = findings()
    (claim, chapter), *_ = found.chapters
    figure = drawing.figure(9, 3)
    figure.subplots().plot(np.tile([0, 1], 10_000), ".")
    picture = Picture("many", figure, "Dots", "Many dots.")
    chapters = ((claim, replace(chapter, pictures=(picture,))),)
    page = write(replace(found, chapters=chapters), tmp_path)
    assert page.stat().st_size < (tmp_path / "pictures" / "many.svg").stat().st_size


def test_what_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    found = replace(findings(), chapters=())
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write(found, tmp_path / "file")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OSError, match=re.escape("report.html")):
        write(found, tmp_path)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_shows_all_of_it(browser: Browser, report: Path, width: int) -> None:
    assert browser.inspect(report, width) == Page(
        title="What is claimed of AdamW, and what holds here",
        images=2,
        broken=(),
        errors=(),
        requests=(),
        overflow=0,
    )

"""The browser of the tests finds what is wrong with a page, so that finding nothing means much."""

from __future__ import annotations

import re
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from browser import Page
from thalweg_study.findings import Findings
from thalweg_study.report import write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from browser import Browser

DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAMLCwgAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="


class Refusing(BaseHTTPRequestHandler):
    """Notes who was asked for, and has nothing."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    """Where a server listens that must not be asked."""
    Refusing.asked = []
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def seen(browser: Browser, directory: Path, body: str, head: str = "") -> Page:
    path = directory / "page.html"
    path.write_text(
        f"<!DOCTYPE html><html><head>{head}<title>t</title></head><body>{body}</body></html>",
        encoding="utf-8",
    )
    return browser.inspect(path, 390)


def test_the_browser_finds_nothing_wrong_with_a_good_page(browser: Browser, tmp_path: Path) -> None:
    page = seen(browser, tmp_path, f'<img src="{DOT}" alt="dot">')
    assert page == Page("t", images=1, broken=(), errors=(), requests=(), overflow=0)


def test_the_browser_finds_an_image_that_does_not_show(browser: Browser, tmp_path: Path) -> None:
    page = seen(browser, tmp_path, '<img src="data:image/png;base64,AAAA" alt="a broken one">')
    assert page.broken == ("a broken one",)


def test_the_browser_finds_what_is_fetched(browser: Browser, tmp_path: Path, address: str) -> None:
    page = seen(browser, tmp_path, f'<img src="{address}/a.png" alt="a">')
    assert page.requests == (f"{address}/a.png",)
    assert page.broken == ("a",)
    assert Refusing.asked == ["/a.png"]


def test_what_a_policy_forbids_is_not_fetched_and_is_found(
    browser: Browser, tmp_path: Path, address: str
) -> None:
    report = write(Findings("", (), (), None), tmp_path).read_text(encoding="utf-8")
    policy = re.search("<meta http-equiv=[^>]*>", report)
    assert policy is not None
    page = seen(browser, tmp_path, f'<img src="{address}/a.png" alt="a">', policy[0])
    assert "Content Security Policy" in "".join(page.errors)
    assert Refusing.asked == []


@pytest.mark.parametrize("script", ["throw new Error('oh no')", "console.error('oh no')"])
def test_the_browser_finds_errors_of_scripts(browser: Browser, tmp_path: Path, script: str) -> None:
    page = seen(browser, tmp_path, f"<script>{script}</script>")
    assert "oh no" in "".join(page.errors)


@pytest.mark.parametrize("hidden", ["", "<style>body { overflow-x: hidden }</style>"])
def test_the_browser_finds_what_is_too_wide(browser: Browser, tmp_path: Path, hidden: str) -> None:
    page = seen(browser, tmp_path, '<div style="width: 500px">wide</div>', hidden)
    assert page.overflow >= 110

"""Output in a terminal, apart from progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from thalweg_study.typography import typeset

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thalweg_study.claim import Chapter, Claim

WIDTH = 80
COLOURS = {"holds": "green", "does not hold": "red", "undecided": "yellow"}


def notice(text: str) -> None:
    """Say something on stderr, beside the results."""
    _print(Console(stderr=True), f"thalweg-study: {text}")


def say(text: str) -> None:
    """Say something on stdout."""
    _print(Console(), text)


def print_verdicts(chapters: Iterable[tuple[Claim, Chapter]]) -> None:
    """Print each claim with its figures and its verdict."""
    console = Console(highlight=False)
    # In a narrow terminal whole words on broken lines say more than cut ones.
    console.width = max(console.width, WIDTH)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_lines=False)
    table.add_column("claim", no_wrap=True)
    table.add_column("what is claimed, and the figures")
    table.add_column("verdict", no_wrap=True)
    for claim, chapter in chapters:
        name = claim.NAME
        for verdict in chapter.verdicts:
            text = _typeset(console, f"{verdict.sentence}\n{verdict.figures}\n")
            table.add_row(name, _plain(text), f"[{COLOURS[verdict.outcome]}]{verdict.outcome}[/]")
            name = ""
    console.print(table)


def _print(console: Console, text: str) -> None:
    text = _encodable(console, text)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    """Keep brackets from being taken for markup."""
    return text.replace("[", r"\[")


def _typeset(console: Console, text: str) -> str:
    """Typeset numbers, if the signs that this takes are known: a question mark is no minus."""
    shown = typeset(text)
    return shown if _encodable(console, shown) == shown else _encodable(console, text)


def _encodable(console: Console, text: str) -> str:
    """Replace what a pipe's encoding does not know, which may not be all letters."""
    return text.encode(console.encoding, "replace").decode(console.encoding)

"""Every refusal, letter by letter, and the way out of it.

Each paragraph of the files beside this one is a case: a title, and statements after `>>>`, each
with the text that it raises or prints. Warnings are errors. An error changes nothing, so the
statements after it use the same objects, and the last ones show a way out. The first paragraph of
a file begins each of its cases.
"""

from __future__ import annotations

import tempfile
from doctest import DocTestParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import skip_without
from refusals import check

if TYPE_CHECKING:
    from collections.abc import Iterator


def cases(path: Path) -> Iterator[Any]:
    """The cases of a file as parameters of a test; skipped if their library is not installed."""
    first, *paragraphs = path.read_text(encoding="utf-8").split("\n\n")
    parse = DocTestParser().get_examples
    for paragraph in paragraphs:
        title, _, statements = paragraph.partition("\n")
        assert statements.startswith(">>> "), f"{path.name}: {title}"
        examples = [(e.source, e.want) for e in parse(f"{first}\n\n{statements}\n")]
        yield pytest.param(examples, id=f"{path.stem}: {title}", marks=skip_without(path.stem))


CASES = [case for path in sorted(Path(__file__).parent.glob("*.txt")) for case in cases(path)]


@pytest.mark.parametrize("examples", CASES)
def test_refusal(
    examples: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path.resolve()))
    check(examples)

"""Every refusal, letter by letter, and the way out of it.

Each paragraph of the files beside this one is a case: a title, and statements after `>>>`, each
with the text that it raises or prints. Warnings are errors. An error changes nothing, so the
statements after it use the same objects, and the last ones show a way out. The first paragraph of
a file begins each of its cases.
"""

from __future__ import annotations

import tempfile
import warnings
from doctest import DocTestParser, Example
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import NEEDS
from refusals import here, told

if TYPE_CHECKING:
    from collections.abc import Iterator


def cases(path: Path) -> Iterator[Any]:
    """The cases of a file as parameters of a test; skipped if their library is not installed."""
    needed = NEEDS.get(path.stem)
    absent = needed is not None and find_spec(needed) is None
    marks = [pytest.mark.skip(f"{needed} is not installed")] if absent else []
    first, *paragraphs = path.read_text(encoding="utf-8").split("\n\n")
    parse = DocTestParser().get_examples
    for paragraph in paragraphs:
        title, _, statements = paragraph.partition("\n")
        assert statements.startswith(">>> "), f"{path.name}: {title}"
        examples = parse(f"{first}\n\n{statements}\n")
        yield pytest.param(examples, id=f"{path.stem}: {title}", marks=marks)


CASES = [case for path in sorted(Path(__file__).parent.glob("*.txt")) for case in cases(path)]


@pytest.mark.parametrize("examples", CASES)
def test_refusal(examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path.resolve()))
    names: dict[str, Any] = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy's, of resize and the like
        for example in examples:
            text = example.want.rstrip("\n")
            assert told(example.source, names, refused=text != "") == here(text), example.source

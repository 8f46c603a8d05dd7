"""Examples in docstrings and in pages of the documentation run as written."""

import doctest
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import thalweg
from conftest import NEEDS, skip_without
from refusals import check

ROOT = Path(__file__).parent.parent


def halves(page: str) -> list[str]:
    """The parts of a page before and after its heading "Errors"; examples before it print."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.split(r"^##? Errors\n", text, maxsplit=1, flags=re.MULTILINE)


def blocks(page: str) -> list[str]:
    """Examples of a page; if the first prints nothing, it is put before each of the others."""
    text = halves(page)[0]
    found = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    if found and "print(" not in found[0]:
        return [found[0] + block for block in found[1:]]
    return found


def errors(page: str) -> Iterator[Any]:
    """For each heading below "Errors": its examples, each with the text that it raises."""
    example = re.compile(
        r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)\n```$)?", re.MULTILINE | re.DOTALL
    )
    for text in halves(page)[1:]:
        first, *sections = text.split("\n### ")
        for section in sections:
            title = section.partition("\n")[0]
            examples = example.findall(first) + example.findall(section)
            yield pytest.param(examples, id=f"{page}: {title}", marks=skip_without(Path(page).stem))


# A site that was built in `docs` may hold copies of pages.
DOCS = [path for path in sorted(ROOT.glob("docs/**/*.md")) if "_build" not in path.parts]
PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in DOCS)]
BLOCKS = [(page, block) for page in PAGES for block in blocks(page)]
ERRORS = [error for page in PAGES for error in errors(page)]
ABOUT = {"exchange": "convert"}
"""Pages in `docs/integrations` about a module with another name."""
MODULES = ["thalweg"] + [
    name
    for _, name, _ in pkgutil.walk_packages(thalweg.__path__, "thalweg.", onerror=lambda _: None)
    if not name.startswith(("thalweg.cli", "thalweg._core", "thalweg.__main__"))
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    for integration in set(name.split(".")) & NEEDS.keys():
        pytest.importorskip(NEEDS[integration])
    module = importlib.import_module(name)
    raised = None
    try:
        doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE, raise_on_error=True)
    except doctest.UnexpectedException as error:
        raised = error.exc_info[1]
    except doctest.DocTestFailure as failure:
        pytest.fail(f"{failure.example.source} gave {failure.got}")
    if raised is not None:
        raise raised  # a library may be missing


def test_public_functions_and_classes_have_examples() -> None:
    finder = doctest.DocTestFinder(recurse=False)
    missing = [
        f"{module}.{name}"
        for module in (
            "thalweg.rules.adabelief",
            "thalweg.rules.adagrad",
            "thalweg.rules.adam",
            "thalweg.rules.adamw",
            "thalweg.rules.lion",
            "thalweg.rules.nadam",
            "thalweg.rules.radam",
            "thalweg.rules.rmsprop",
            "thalweg.rules.schedule_free",
            "thalweg.rules.sgd",
            "thalweg.averages.accumulator",
            "thalweg.averages.ema",
            "thalweg.convert",
            "thalweg.functional",
            "thalweg.schedule",
            "thalweg.tree",
            "thalweg.groups.ready",
            "thalweg.weight_decay",
        )
        for name in importlib.import_module(module).__all__
        if name not in ("Optimizer", "AveragingTime", "ConvertReport")
        and not any(
            test.examples
            for test in finder.find(getattr(importlib.import_module(module), name), name)
        )
    ]
    assert missing == []


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=lambda text: text.split("\n", 1)[0])
def test_examples_of_pages(page: str, block: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "docs/integrations/" in page and Path(page).stem in NEEDS:
        pytest.importorskip(NEEDS[Path(page).stem])
    exec(compile(block, page, "exec"), {})  # noqa: S102 - our own pages
    said = re.findall(r"print\(.*\)  # (.*)", block)
    printed = capsys.readouterr().out
    assert printed
    assert all(line in printed for line in said)


@pytest.mark.parametrize("examples", ERRORS)
def test_errors_of_pages(
    examples: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check(examples)


def test_links_between_pages_lead_to_files() -> None:
    link = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
    assert [
        (page.name, target)
        for page in (*ROOT.glob("*.md"), *DOCS)
        for target in link.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ] == []

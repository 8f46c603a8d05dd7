"""What the documentation shows runs as written."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import thalweg

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
MODULES = ["thalweg"] + [
    module.name
    for module in pkgutil.walk_packages(thalweg.__path__, "thalweg.")
    if not module.name.startswith(("thalweg.cli", "thalweg._core", "thalweg.__main__"))
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


def test_public_functions_and_classes_have_examples() -> None:
    finder = doctest.DocTestFinder(recurse=False)
    missing = [
        f"{module}.{name}"
        for module in ("thalweg.optimizers", "thalweg.functional", "thalweg.tree")
        for name in importlib.import_module(module).__all__
        if name != "Optimizer"
        and not any(
            test.examples
            for test in finder.find(getattr(importlib.import_module(module), name), name)
        )
    ]
    assert missing == []


@pytest.mark.parametrize("position", range(len(BLOCKS)))
def test_readme_examples(position: int, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(BLOCKS[position], "README.md", "exec"), {})  # noqa: S102 - our own README
    said = re.findall(r"print\(.*\)  # (.*)", BLOCKS[position])
    printed = capsys.readouterr().out
    assert printed
    assert all(line in printed for line in said)

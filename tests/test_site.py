"""The site documents every public name; `.ci/run` checks that it builds without a warning."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import pkgutil
import re
from itertools import pairwise
from pathlib import Path

import pytest

import thalweg
from thalweg.cli import SUBCOMMANDS

ROOT = Path(__file__).parent.parent
API = ROOT / "docs" / "api"
DIRECTIVES = [
    (directive, name)
    for page in sorted(API.glob("*.md"))
    for directive, name in re.findall(
        r"^ *\.\. (?:py:|auto)(\w+):: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE
    )
]
SHOWN = [name for _, name in DIRECTIVES]
MODULES = [name for directive, name in DIRECTIVES if directive == "module"]
PUBLIC = [
    name for name in thalweg.__all__ if inspect.ismodule(getattr(thalweg, name))
]  # functional, reference, schedule, tree


def is_module(name: str) -> bool:
    path = ROOT / "python" / "thalweg" / name
    return path.is_dir() or path.with_suffix(".py").exists()


INTEGRATIONS = sorted(
    path.stem for path in (ROOT / "docs" / "integrations").glob("*.md") if is_module(path.stem)
)


def test_every_name_of_the_package_is_in_the_api() -> None:
    assert [name for name in thalweg.__all__ if f"thalweg.{name}" not in SHOWN] == []
    assert len(SHOWN) == len(set(SHOWN))


def test_every_module_that_needs_another_library_is_in_the_api() -> None:
    assert [name for name in INTEGRATIONS if f"thalweg.{name}" not in MODULES] == []


def documented_data(name: str) -> set[str]:
    """Names of data of a module, or of the modules of a package: assignments with a docstring."""
    module = importlib.import_module(name)
    below = pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}.")
    files = [module, *(importlib.import_module(found.name) for found in below)]
    return {
        ast.unparse(target)
        for file in files
        for one, then in pairwise(ast.parse(inspect.getsource(file)).body)
        if isinstance(one, ast.Assign)
        if isinstance(then, ast.Expr) and isinstance(then.value, ast.Constant)
        for target in one.targets
    }


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_of_a_module_has_a_docstring(name: str) -> None:
    module = importlib.import_module(f"thalweg.{name}")
    silent = [
        name
        for name in module.__all__
        if not (callable(value := getattr(module, name)) and value.__doc__)
        if name not in documented_data(module.__name__)
    ]
    assert silent == []


def test_the_optimizer_shows_every_method_and_attribute_it_has() -> None:
    public = {name for name in dir(thalweg.Optimizer) if not name.startswith("_")}
    # `rule` is private to the package.
    assert public - {"rule"} <= set(SHOWN)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_command_line_shows_every_option(name: str) -> None:
    parser = argparse.ArgumentParser()
    SUBCOMMANDS[name].configure(parser)
    options = {o for action in parser._actions for o in action.option_strings if o[:2] == "--"}
    page = (API / "command.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## thalweg {name}\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(--[\w-]+)", section, re.MULTILINE)) == options - {"--help"}


def test_every_example_is_listed() -> None:
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    files = [path for path in ROOT.glob("examples/[!_.]*") if path.suffix in ("", ".py")]
    assert [path.name for path in files if f"(../examples/{path.name}" not in page] == []

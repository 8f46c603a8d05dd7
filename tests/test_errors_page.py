"""`docs/errors.md` shows every error as it is raised, and a way out that works.

A module that another library needs has its errors on its own page, under "Errors".
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

import thalweg
from conftest import attached, snapshot
from test_docs import ABOUT, NEEDS
from thalweg.averages.mirror import Mirror

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).parent.parent
CORE = ROOT / "docs" / "errors.md"
PAGE = CORE.read_text(encoding="utf-8")
INTEGRATIONS = sorted(
    path for path in (ROOT / "docs" / "integrations").glob("*.md") if path.stem != "index"
)

UNREACHABLE = {
    "step is the 1-based number of the update, got 0": "functions want a whole number from 1 on",
    "… has shape …, the parameter has …": "arrays are compared with their parameter before",
    "the rule keeps … state arrays, got …": "the binding passes what the rule keeps",
    "the parameter is …, the coefficients are for …": "the binding makes them for that type",
    "norms of an update need a rule that trains and tensors bound in logical order": "so they are",
    "… is not a hyperparameter": "keys of groups are those of the rule",
    "there is no rule …": "optimizers name rows of the table of rules",
    "… is not a parameter": "names come from the optimizer's own parameters",
    "the record of progress does not fit": "it is made for the leaves that there are",
    "the assignment does not fit the leaves": "Python's groups make one class a leaf",
    "NumPy has no dtype for …": "a checkpoint of ours has NumPy's dtypes",
    "a tensor cannot be named '__metadata__' in safetensors": "names begin with what a tensor is",
    "two tensors are named …": "names that would be equal are told apart",
    "the metadata key … is written by save itself": "the keys are ours",
    "an array is not of the type …": "the type is that of the array",
    "tensor … of the checkpoint is of another shape or type than what it is for": "compared before",
    "tensor … of dtype … and shape … has too many bytes, or no whole number of them": "it exists",
    "tensor … has … bytes by dtype and shape, its source gave …": "its source is an array",
    "tensor … has … bytes by dtype and shape, its source gave … or more": "the same",
    "… is no text: …": "it is",
    "safetensors does not take the header: …": "it is made as safetensors asks",
    "checkpoints are little endian, and this machine is big endian: they can neither be saved nor "
    "read here": "no wheel is built for such a machine",
    "… is in use by another process; one at a time writes to it: wait for it, or close it": "the "
    "system tells which, other than Windows",
    "loading was cut short, so part of the arrays are what was loaded and part what they were "
    "before; load again": "a disk that fails between two looks at a file",
}
"""Refusals that Python code does not meet, and what comes before them."""

NO_ERROR = {
    "CPU affinity and cgroup quota",  # what `thalweg info` says
    "the gradient",  # what the core calls arrays in the second of the above
    "a state array",
    "a written array",
    "a chunk is a row of the sums",  # what the compiler would say
    "<{open} step of {}>",  # a repr
    " (os error {number})",  # what is cut off
    # Instructions of the processor.
    "stmxcsr [{}]",
    "ldmxcsr [{}]",
    "mrs {}, fpcr",
    "msr fpcr, {}",
    # What cannot be done with a file, in the message of an OSError.
    "look at",
    "empty the .partial file of",
    "write the checksum of",
    "set the permissions of",
    "put the .partial file in the place of",
    "flush the directory of",
    "read a tensor for",
    "the save has stopped",
    "the .partial file beside it was removed or replaced",
    "no regular file",
}


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path.resolve()))


class Block(NamedTuple):
    prelude: str
    heading: str
    language: str
    body: str


def blocks(path: Path) -> Iterator[tuple[Block, Block | None]]:
    """The blocks about errors, each with the one that follows it; the prelude is left out."""
    page = path.read_text(encoding="utf-8")
    if path != CORE:
        page = page.partition("\n## Errors\n")[2]
    heading = path.stem
    tokens = re.compile(r"^#+ (.+?)$|^```(\w+)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
    found: list[Block] = []
    for title, language, body in tokens.findall(page):
        if title:
            heading = title
        else:
            found.append(Block(found[0].body if found else "", heading, language, body))
    return zip(found[1:], [*found[2:], None][: len(found[1:])], strict=True)


PAIRS = {path: [*blocks(path)] for path in (CORE, *INTEGRATIONS)}


def examples(path: Path) -> list[tuple[Block, str]]:
    return [(one, then.body) for one, then in PAIRS[path] if then and then.language == "text"]


def parameters(path: Path, values: Iterable[Any]) -> list[Any]:
    """Parameters of a test, skipped where the page is about a library that is not installed."""
    needed = NEEDS.get(path.stem)
    absent = path != CORE and needed and importlib.util.find_spec(needed) is None
    marks = [pytest.mark.skip(f"{needed} is not installed")] if absent else []
    return [pytest.param(*value, marks=marks) for value in values]


EXAMPLES = examples(CORE)
ALL_EXAMPLES = [p for path in PAIRS for p in parameters(path, examples(path))]
REMEDIES = [
    p
    for path, pairs in PAIRS.items()
    for p in parameters(
        path,
        [(one,) for one, then in pairs if "text" not in (one.language, then and then.language)],
    )
]
MESSAGES = [text for _, text in EXAMPLES]


def shown(error: Exception) -> str:
    """How a traceback ends, without what differs.

    That is: addresses, the working directory, the process, and spellings that Python suggests.
    """
    kind = type(error)
    name = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    notes = [n for n in getattr(error, "__notes__", ()) if "JAX has removed" not in n]
    text = "\n".join([f"{name}{kind.__qualname__}: {error}", *notes])
    text = re.sub(r" at 0x[0-9a-fA-F]+", " at 0x...", text)
    directory = rf"{re.escape(tempfile.gettempdir())}/{tempfile.gettempprefix()}\w+"
    text = re.sub(directory, "/runs/mlp", text).replace(str(Path.cwd()), "/run")
    return text.replace(f"process {os.getpid()}", "process 4242")


def here(text: str) -> str:
    """What the page says, on this machine and this Python."""
    if sys.version_info < (3, 11):
        text = re.sub("\nwhile processing .*", "", text)  # a note, which 3.10 does not have
    return text.replace("avx512, avx2, baseline", ", ".join(thalweg.cpu_levels()))


def raised(prelude: str, code: str) -> str:
    """What the last statement raises, once it is seen that it changes nothing."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(prelude, names)  # noqa: S102 - our own page
    *before, last = ast.parse(code).body
    exec(compile(ast.Module(before, []), "errors.md", "exec"), names)  # noqa: S102
    arrays = {key: value for key, value in names.items() if isinstance(value, np.ndarray)}
    optimizers = [value for value in names.values() if isinstance(value, thalweg.Optimizer)]
    mirrors = [value for value in names.values() if isinstance(value, Mirror)]
    started = [opt for opt in optimizers if "_held" in vars(opt)]
    mirrors += [mirror for opt in started for mirror in attached(opt).values()]

    def state() -> Any:
        return (
            {key: array.tobytes() for key, array in arrays.items()},
            [*map(snapshot, optimizers)],
            [
                (repr(m), {key: a.tobytes() for key, a in m._mirrored.arrays.items()})
                for m in mirrors
            ],
        )

    kept = state()
    try:
        exec(compile(ast.Module([last], []), "errors.md", "exec"), names)  # noqa: S102
    except Exception as error:  # noqa: BLE001 - which one is the question
        assert state() == kept
        return shown(error)
    return "nothing"


def raised_in_shell(_prelude: str, line: str) -> str:
    *variables, python, option, code = shlex.split(line)
    assert (python, option) == ("python", "-c")
    environment = {**os.environ, **dict(variable.split("=") for variable in variables)}
    command = [sys.executable, option, code]
    ended = subprocess.run(  # noqa: S603
        command, env=environment, capture_output=True, text=True, check=False, timeout=30
    )
    return ended.stderr.splitlines()[-1]


@pytest.fixture
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples may write files, and use our programs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize(("example", "text"), ALL_EXAMPLES, ids=lambda x: getattr(x, "heading", ""))
def test_examples_raise_what_the_page_shows_and_change_nothing(example: Block, text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy deprecates what some examples do to arrays
        run = {"python": raised, "sh": raised_in_shell}[example.language]
        assert run(example.prelude, example.body) == here(text)


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: remedy.heading)
def test_remedies_work(remedy: Block, capsys: pytest.CaptureFixture[str]) -> None:
    assert remedy.language == "python"
    exec(f"{remedy.prelude}\n{remedy.body}", {"__name__": "__main__"})  # noqa: S102 - our own page
    printed = capsys.readouterr().out.splitlines()
    for said in re.findall(r"print\(.*\)  # (.*)", remedy.body):
        assert said in printed


def test_the_index_lists_every_heading_under_its_exceptions() -> None:
    expected = defaultdict(set)
    for example, text in EXAMPLES:
        exception = text.partition(":")[0].removeprefix("thalweg.errors.")
        slug = re.sub(r"[^\w\- ]", "", example.heading.lower()).replace(" ", "-")
        expected[exception].add((example.heading, slug))
    index = PAGE.partition("## By exception")[2].partition("\n## ")[0]
    listed = {
        exception: set(re.findall(r"\[(.*?)\]\(#(.*?)\)", entries))
        for exception, entries in re.findall(
            r"^- \*\*(\w+)\*\*: (.*?)$(?=\n-|\n\n|\Z)", index, re.MULTILINE | re.DOTALL
        )
    }
    assert listed == expected


PLACEHOLDER = ".+?"


class PythonSentences(ast.NodeVisitor):
    """Patterns of what Python code may say: messages with their exception, and other text.

    Text that is put together elsewhere counts if it has a space, as no name or key has.
    """

    def __init__(self) -> None:
        self.messages: set[str] = set()
        self.texts: set[str] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name not in ("__repr__", "__str__"):
            self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        if node.exc is None:  # what was caught goes on
            return
        assert isinstance(node.exc, ast.Call), ast.unparse(node)
        self.message(ast.unparse(node.exc.func), node.exc.args[0])
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if ast.unparse(node.func) == "warnings.warn":
            category = ast.unparse(node.args[1]) if len(node.args) > 1 else "UserWarning"
            self.message(category, node.args[0])
        self.generic_visit(node)

    def message(self, exception: str, message: ast.expr) -> None:
        pattern = self.pattern(message)
        # The text of a call is found where it is made.
        assert pattern or isinstance(message, ast.Call), ast.unparse(message)
        self.messages |= {f"{exception}: {pattern}"} if pattern else set()

    def visit_Constant(self, node: ast.Constant) -> None:
        self.texts |= {pattern for pattern in [self.pattern(node)] if " " in pattern}

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self.texts |= {pattern for pattern in [self.pattern(node)] if " " in pattern}

    def pattern(self, node: ast.expr) -> str:
        if isinstance(node, ast.JoinedStr):
            return "".join(map(self.pattern, node.values))
        if isinstance(node, ast.FormattedValue):
            return PLACEHOLDER
        text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        return re.escape(node.value).replace("\\ ", " ") if text else ""


def not_found(patterns: Iterable[str], find: Callable[..., Any], texts: list[str]) -> list[str]:
    return [
        pattern
        for pattern in sorted(patterns)
        if not any(find(pattern, text, re.DOTALL) for text in texts)
    ]


def sentences(paths: Iterable[Path]) -> PythonSentences:
    found = PythonSentences()
    for path in paths:
        found.visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def modules() -> dict[str, list[Path]]:
    """Files of the package by the module, or package, that they belong to."""
    package = ROOT / "python" / "thalweg"
    found = defaultdict(list)
    for path in package.rglob("*.py"):
        found[path.relative_to(package).parts[0].removesuffix(".py")].append(path)
    return found


def module_of(page: Path) -> str:
    return ABOUT.get(page.stem, page.stem)


def test_the_page_shows_every_error_of_the_python_code() -> None:
    own = {module_of(path) for path in INTEGRATIONS} | {
        "cli",
        "machine",
        "study",
    }  # which speak for themselves
    said = sentences(path for name, paths in modules().items() if name not in own for path in paths)
    assert len(said.messages) > 20
    # A message that a longer one lists, where a state dict does not fit.
    listed = re.findall(r"^- groups\[\d\]\.\w+: (.*)$", "\n".join(MESSAGES), re.MULTILINE)
    messages = (message.removeprefix("thalweg.errors.") for message in MESSAGES)
    # A KeyError shows its text in quotes.
    messages = (re.sub('^(KeyError: )"(.*)"$', r"\1\2", message) for message in messages)
    known = [*messages, *(f"ValueError: {message}" for message in listed)]
    assert not_found(said.messages, re.fullmatch, known) == []
    assert not_found(said.texts, re.search, MESSAGES) == []


@pytest.mark.parametrize("path", INTEGRATIONS, ids=lambda path: path.stem)
def test_pages_of_integrations_show_every_error_of_their_modules(path: Path) -> None:
    said = sentences(modules()[module_of(path)])
    shown = [text for _, text in examples(path)]
    assert not_found(said.messages, re.fullmatch, shown) == []


def rust_texts() -> Iterator[str]:
    """String literals with a space; comments and characters are no strings."""
    tokens = re.compile(r"//[^\n]*|'(?:\\.|[^'\\])'|\"((?:\\.|[^\"\\])*)\"", re.DOTALL)
    for path in (ROOT / "src").rglob("*.rs"):
        for literal in tokens.findall(path.read_text(encoding="utf-8")):
            text = re.sub(r"\\\n\s*", "", literal).replace('\\"', '"')
            if " " in text:
                yield text


def rust_pattern(text: str) -> str:
    return PLACEHOLDER.join(map(re.escape, re.split(r"\{[^{}]*\}", text)))


def test_the_page_shows_every_error_of_the_rust_code() -> None:
    found = set(rust_texts())
    assert len(found) > 60
    patterns = {rust_pattern(text): text for text in found - NO_ERROR}
    # What it knows of other libraries is on their pages.
    shown = [text for path in PAIRS for _, text in examples(path)]
    missing = {patterns[pattern] for pattern in not_found(patterns, re.search, shown)}
    assert {re.sub(r"\{[^{}]*\}", "…", text) for text in missing} == set(UNREACHABLE)
    named = " ".join(PAGE.partition("## What Python code does not meet")[2].split())
    assert all(f"`{text}`" in named for text in UNREACHABLE)

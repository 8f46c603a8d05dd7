"""Imports point one way, between modules and between their folders."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rust_imports import rust_imports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parent.parent
PACKAGES = {
    path.name: path
    for path in (ROOT / "python" / "thalweg", ROOT / "examples" / "study" / "thalweg_study")
}
SOURCES = {".py", ".pyi"}


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Nodes of a circle in the order of its edges, the first one repeated at the end; or none."""
    done: set[str] = set()
    for start in sorted(graph):
        path: list[str] = []
        waiting = [iter([start])]
        while waiting:
            node = next(waiting[-1], None)
            if node is None:
                waiting.pop()
                if path:
                    done.add(path.pop())
            elif node in path:
                return [*path[path.index(node) :], node]
            elif node not in done:
                path.append(node)
                waiting.append(iter(sorted(graph.get(node, ()))))
    return []


def between_rooms(graph: Mapping[str, set[str]], room: Mapping[str, str]) -> dict[str, set[str]]:
    """The graph of rooms; `room` maps each node to its room."""
    rooms: dict[str, set[str]] = {name: set() for name in room.values()}
    for node, targets in graph.items():
        rooms[room[node]] |= {room[target] for target in targets} - {room[node]}
    return rooms


def python_modules(package: Path) -> dict[str, Path]:
    """Files of the modules of a package by name; for the native module, its stub."""
    found = {}
    for path in package.rglob("*"):
        if path.suffix in SOURCES:
            parts = path.relative_to(package.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def python_imports(package: Path) -> dict[str, set[str]]:
    """Modules of its package that each module imports, in functions and for type checkers too."""
    modules = python_modules(package)
    return {
        name: {target for target in imported(name, path, modules) if target != name}
        for name, path in modules.items()
    }


def imported(name: str, path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(part for part in (above, node.module) if part)
            for alias in node.names:
                target = f"{source}.{alias.name}"
                if target in modules:
                    yield target
                elif source in modules:
                    yield source


def python_rooms(package: Path) -> dict[str, str]:
    """Room of each module: its folder or file directly in the package."""
    return {name: ".".join(name.split(".")[:2]) for name in python_modules(package)}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_of_modules(package: str) -> None:
    found = circle(python_imports(PACKAGES[package]))
    assert not found, " -> ".join(found)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_of_folders(package: str) -> None:
    path = PACKAGES[package]
    found = circle(between_rooms(python_imports(path), python_rooms(path)))
    assert not found, " -> ".join(found)


CRATES = {
    "src": rust_imports(ROOT / "src", apart=("capi", "python")),
    "src/capi": rust_imports(ROOT / "src" / "capi"),
    "src/python": rust_imports(ROOT / "src" / "python"),
}


@pytest.mark.parametrize("crate", CRATES)
def test_no_circle_of_rust_files(crate: str) -> None:
    found = circle(CRATES[crate])
    assert not found, " -> ".join(found)


@pytest.mark.parametrize("crate", CRATES)
def test_no_circle_of_rust_folders(crate: str) -> None:
    rooms = {module: module.split("::")[0] for module in CRATES[crate]}
    found = circle(between_rooms(CRATES[crate], rooms))
    assert not found, " -> ".join(found)


@pytest.mark.parametrize(
    ("folder", "most"), [("src", 6), ("src/python", 14), ("python/thalweg", 14)]
)
def test_top_folders_hold_few_files(folder: str, most: int) -> None:
    ours = {*SOURCES, ".rs", ".toml", ".typed", ""}
    flat = [p.name for p in (ROOT / folder).iterdir() if p.is_file() and p.suffix in ours]
    assert len(flat) <= most, sorted(flat)


def test_python_imports_of_every_form_are_found() -> None:
    imports = python_imports(PACKAGES["thalweg"])
    assert "thalweg.cli.bench.session" in imports["thalweg.cli.bench"]  # in a function
    assert "thalweg._core" in imports["thalweg.tree"]
    assert "thalweg" in imports["thalweg.cli"]


def test_rust_imports_of_every_form_are_found() -> None:
    core, _, binding = CRATES.values()
    assert "rule::terms" in core["rule::adam"]  # super::
    assert "rule::adam" in core["rule"]  # re-exported
    assert "number::element" in core["update::kernel"]  # crate::
    assert "interpreter::exit" in binding["lib"]  # in an inline module


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"e"}, "e": {"b"}}) == [
        "b",
        "d",
        "e",
        "b",
    ]
    assert circle({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) == []

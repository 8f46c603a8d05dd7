"""Imports between the files of a Rust crate: `use` items, and paths in the code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Module = tuple[str, ...]

TEST_MODULE = re.compile(r"#\[cfg\([^\]]*\btest\b[^\]]*\)\]\s*mod \w+\s*\{")


def rust_imports(root: Path, apart: tuple[str, ...] = ()) -> dict[str, set[str]]:
    """For each file of a crate, the files that define or re-export the names it imports.

    The folders in `apart` are other crates.
    """
    modules = {}
    for path in root.rglob("*.rs"):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] not in apart and parts[-1] != "tests":
            modules[parts[:-1] if parts[-1] in ("mod", "lib") else parts] = path
    return {
        shown(module): {shown(m) for m in imported(module, path, modules) if m != module}
        for module, path in modules.items()
    }


def shown(module: Module) -> str:
    return "::".join(module) or "lib"


def imported(module: Module, path: Path, modules: Mapping[Module, Path]) -> Iterator[Module]:
    code = without_tests(re.sub(r"//[^\n]*", "", path.read_text(encoding="utf-8")))
    uses = re.compile(r"\buse\s+([^;]+);")
    paths = [name for tree in uses.findall(code) for name in names(tree)]
    paths += re.findall(r"\b(?:crate|super|self)(?:::\w+)+", uses.sub("", code))
    for name in paths:
        first, *rest = name.split("::")
        if first == "crate":
            found: Module = ()
        elif first == "super":
            found = module[:-1]
        elif first == "self":
            found = module
        elif (*module, first) in modules:
            found = (*module, first)
        else:
            continue
        for part in rest:
            if (*found, part) not in modules:
                break
            found = (*found, part)
        yield found


def names(tree: str) -> list[str]:
    """Paths of an import tree such as ``a::{b, c::{d, e as f}}``."""
    tree = tree.strip()
    if "{" not in tree:
        return [tree.partition(" as ")[0]]
    head, _, rest = tree.partition("{")
    found, part, depth = [], "", 0
    for character in rest.rpartition("}")[0] + ",":
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            found += [head.strip() + name for name in names(part)] if part.strip() else []
            part = ""
        else:
            part += character
    return found


def without_tests(code: str) -> str:
    """Code without its test modules."""
    while found := TEST_MODULE.search(code):
        depth, at = 1, found.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(code[at], 0)
            at += 1
        code = code[: found.start()] + code[at:]
    return code

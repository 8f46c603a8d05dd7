"""Sphinx configuration: `sphinx-build -W --keep-going -n -b html docs docs/_build`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphinx.util.inspect import signature, stringify_signature

import thalweg

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx

project = "thalweg"
author = "the authors of thalweg"
release = version = thalweg.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
default_role = "obj"
highlight_language = "text"
smartquotes = False
maximum_signature_line_length = 80

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_mock_imports = ["autograd", "jax", "scipy", "sklearn", "torch"]
autodoc_preserve_defaults = True
autodoc_typehints = "none"
numpydoc_show_class_members = False

html_theme = "furo"
html_title = f"thalweg {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False

ROOT = Path(__file__).resolve().parent.parent
STANDS_FOR = {
    "project/overview": "README.md",
    "project/changelog": "CHANGELOG.md",
    "project/contributing": "CONTRIBUTING.md",
}
"""Pages whose text is a file of the repository outside `docs`."""
SHOWN = {file: page for page, file in STANDS_FOR.items()}
SHOWN["python/thalweg/reference/__init__.py"] = "api/reference"
"""Files of the repository that have a page; links to other files become downloads."""


def take_in(app: Sphinx, docname: str, source: list[str]) -> None:
    """Read a page of `STANDS_FOR` from its file, and point links out of `docs` to pages."""
    docs, page = Path(app.srcdir), Path(app.srcdir, f"{docname}.md")
    folder = page.parent
    if docname in STANDS_FOR:
        file = ROOT / STANDS_FOR[docname]
        app.env.note_dependency(str(file))
        source[0], folder = file.read_text(encoding="utf-8"), ROOT

    def lead(link: re.Match[str]) -> str:
        target = (folder / link[1]).resolve()
        if not target.is_file():
            return link[0]
        shown = SHOWN.get(Path(os.path.relpath(target, ROOT)).as_posix())
        target = docs / f"{shown}.md" if shown else target
        return f"]({Path(os.path.relpath(target, page.parent)).as_posix()}"

    source[0] = re.sub(r"\]\(([^)#:\s]+)", lead, source[0])


def no_link(_app: Sphinx, _env: Any, reference: pending_xref, content: Element) -> Element | None:
    """No link for single backquotes that name an argument or an object of another library."""
    first, dot, _ = reference["reftarget"].partition(".")
    other = not dot or first in autodoc_mock_imports
    return content if reference["reftype"] == "obj" and other else None


def as_called(
    _app: Sphinx, what: str, _name: str, made: Any, _options: Any, *signatures: str | None
) -> tuple[str | None, ...]:
    """The signature of `__init__` where the base class is mocked, without refused keywords."""
    called, returned = signatures
    if what == "class" and called == "(*args, **kwargs)":
        own = signature(made.__init__, bound_method=True)
        called = stringify_signature(own, show_annotation=False)
    return called and called.replace(", **unsupported", ""), returned


def imported_from(_app: Sphinx, module: str, name: str) -> str | None:
    """No source link for objects of the native module, which has no Python source."""
    native = getattr(getattr(thalweg, name, None), "__module__", None) == "thalweg._core"
    return module if native else None


def setup(app: Sphinx) -> None:
    """Connect the handlers."""
    app.connect("source-read", take_in)
    app.connect("missing-reference", no_link)
    app.connect("autodoc-process-signature", as_called)
    app.connect("viewcode-follow-imported", imported_from)

"""Modules that need another library are imported on first use, not by `import thalweg`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

import thalweg

MODULES = {"scipy": "adamw", "sklearn": "MLPClassifier", "torch": "AdamW"}


def run(code: str) -> str:
    ended = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return ended.stdout


def test_thalweg_imports_none_of_the_libraries() -> None:
    libraries = {"autograd", "jax", "optax", *MODULES}
    code = f"import sys, thalweg; print({libraries!r} & sys.modules.keys())"
    assert run(code) == "set()\n"


@pytest.mark.parametrize(("name", "member"), MODULES.items())
def test_a_module_is_imported_on_first_use(name: str, member: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    assert run(f"import thalweg; print(thalweg.{name}.{member}.__name__)") == f"{member}\n"


@pytest.mark.parametrize("name", MODULES)
def test_a_missing_library_is_named_with_the_extra_to_install(name: str) -> None:
    code = f"""
import sys
sys.modules[{name!r}] = None
import thalweg
try:
    thalweg.{name}
except ImportError as error:
    print(error)
"""
    assert f"pip install 'thalweg[{name}]'" in run(code)


def test_unknown_names_raise_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'thalweg' has no attribute 'numpy'"):
        _ = thalweg.numpy  # type: ignore[attr-defined]  # that is the test
    assert not hasattr(thalweg, "adamw")

"""Runs examples that raise, compares the whole message, and checks that nothing has changed.

The examples are those of `tests/errors` and of the pages of the documentation.
"""

from __future__ import annotations

import ast
import io
import os
import re
import sys
import tempfile
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import thalweg
from conftest import attached, snapshot
from thalweg.averages.mirror import Mirror

if TYPE_CHECKING:
    from collections.abc import Iterable


def state(names: dict[str, Any]) -> Any:
    """Everything in `names` that a refusal must not change: arrays, optimizers, averages, sums."""
    optimizers = [value for value in names.values() if isinstance(value, thalweg.Optimizer)]
    mirrors = [value for value in names.values() if isinstance(value, Mirror)]
    for opt in optimizers:
        mirrors += attached(opt).values() if "_held" in vars(opt) else ()
    return (
        {name: a.tobytes() for name, a in names.items() if isinstance(a, np.ndarray)},
        [*map(snapshot, optimizers)],
        [(repr(m), {k: a.tobytes() for k, a in m._mirrored.arrays.items()}) for m in mirrors],
    )


def error_text(error: Exception) -> str:
    """Last lines of the traceback; addresses, directories and the process have fixed stand-ins."""
    kind = type(error)
    name = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    notes = [n for n in getattr(error, "__notes__", ()) if "JAX has removed" not in n]
    text = "\n".join([f"{name}{kind.__qualname__}: {error}", *notes])
    text = re.sub(r" at 0x[0-9a-fA-F]+", " at 0x...", text)
    directory = rf"{re.escape(tempfile.gettempdir())}/{tempfile.gettempprefix()}\w+"
    text = re.sub(directory, "/runs/mlp", text).replace(str(Path.cwd()), "/run")
    return text.replace(f"process {os.getpid()}", "process 4242")


def outcome(source: str, names: dict[str, Any], *, refused: bool) -> str:
    """Output of `source`; with `refused`, the text of the exception of its last statement."""
    *before, last = ast.parse(source).body
    out = io.StringIO()
    with redirect_stdout(out):
        exec(compile(ast.Module(before, []), "example", "exec"), names)  # noqa: S102 - our own
        kept = state(names) if refused else None
        try:
            exec(compile(ast.Module([last], []), "example", "exec"), names)  # noqa: S102
        except Exception as error:
            if not refused:
                raise
            assert state(names) == kept
            return error_text(error)
    return out.getvalue().rstrip("\n")


def adapted(text: str) -> str:
    """The expected text, adapted to this machine and this version of Python."""
    if sys.version_info < (3, 11):
        text = re.sub("\nwhile processing .*", "", text)  # Python 3.10 has no notes
    return text.replace("avx512, avx2, baseline", ", ".join(thalweg.cpu_levels()))


def check(examples: Iterable[tuple[str, str]]) -> None:
    """Run pairs of (statements, the text that they raise or print), in order, in one namespace."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy's, of `resize` and others
        for source, text in examples:
            expected = adapted(text.rstrip("\n"))
            assert outcome(source, names, refused=expected != "") == expected, source

"""The C programs in `examples`, built and run by the commands that they name."""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from c_library import ROOT, built
from test_c_header import STRICT, ran

import thalweg

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = ROOT / "examples"


def commands(source: Path, prefix: Path) -> list[str]:
    """The commands in the comment that begins a program, with paths and strict warnings."""
    comment = source.read_text(encoding="utf-8").split("*/")[0]
    found = re.findall(r"^ \*     (.+)$", comment, re.MULTILINE)
    flags = f"{' '.join(STRICT[:3])} -Werror -Wl,-rpath,{prefix}/lib"
    return [
        command.replace("python ", f"{sys.executable} ").replace("cc ", f"cc {flags} ")
        for command in found
    ]


def run(command: str, folder: Path, prefix: Path) -> str:
    environment = {**os.environ, "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
    return ran("bash", "-c", command, cwd=folder, env=environment)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built()
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed")
    path = tmp_path_factory.mktemp("prefix")
    ran(ROOT / "src" / "capi" / "install", path)
    return path


def test_the_digits_have_the_bits_of_python(prefix: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    source = EXAMPLES / "c" / "digits.c"
    shutil.copytree(source.parent, tmp_path, dirs_exist_ok=True)
    data, build, train = commands(source, prefix)
    run(data, tmp_path, prefix)
    run(build, tmp_path, prefix)
    printed = run(f"{train} gradients.bin", tmp_path, prefix)
    assert float(printed.split()[-2]) > 96.0, printed
    compare = f"{sys.executable} compare.py run.safetensors gradients.bin"
    same = "1720 steps of 17226 parameters: the same bits in C and in Python\n"
    assert run(compare, tmp_path, prefix) == same


def test_rows_of_a_host_s_threads(prefix: Path, tmp_path: Path) -> None:
    source = EXAMPLES / "ggml_row" / "row.c"
    shutil.copytree(source.parent, tmp_path, dirs_exist_ok=True)
    build, row = commands(source, prefix)
    run(build, tmp_path, prefix)
    assert "4 threads and 1 thread: the same bits" in run(row, tmp_path, prefix)


def test_the_programs_of_the_page(prefix: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    whole, rows = re.findall(r"^```c\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    around = f"""
        #include <stdio.h>
        #include <string.h>
        #include <thalweg.h>
        int main(void) {{
            float p[60], g[60], m[60] = {{0}}, v[60] = {{0}};
            size_t first = 1, last = 4, stride = 12, columns = 10, step = 1;
            for (int k = 0; k < 60; k++) p[k] = 1.0f, g[k] = 1.0f;
            {rows}
            for (int k = 0; k < 60; k++)
                if ((p[k] < 1.0f) != (k / 12 >= 1 && k / 12 < 4 && k % 12 < 10)) return 1;
            return 0;
        }}
    """
    flags = f"$(pkg-config --cflags --libs thalweg) -Wl,-rpath,{prefix}/lib"
    for name, text in (("whole", whole), ("rows", around)):
        source = tmp_path / f"{name}.c"
        source.write_text(text, encoding="utf-8")
        build = f"cc {' '.join(STRICT[:3])} -Werror -std=c99 {source} -o {name} {flags}"
        run(build, tmp_path, prefix)
        printed = run(f"./{name}", tmp_path, prefix)
        assert printed == ("1.0 6.9 3.0\n" if name == "whole" else "")
    params = {"w": np.zeros(8, np.float32), "b": np.zeros(1, np.float32)}
    opt = thalweg.AdamW(params, lr=0.1)
    opt.load(tmp_path / "run.safetensors", hyperparameters="current")
    assert opt.step_count == 100
    assert params["b"].round(1) == 3.0

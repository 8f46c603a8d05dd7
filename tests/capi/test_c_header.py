"""The header and the libraries: languages, layout, symbols, size, what is installed."""

from __future__ import annotations

import ctypes as c
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from c_library import HEADER, ROOT, SOURCE, Options, Step, Tensor, built, library

if TYPE_CHECKING:
    from pathlib import Path

STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
PROGRAM = """
#include "thalweg.h"
#include <stdio.h>
int main(void) {
    float p[3] = {1, 2, 3}, g[3] = {1, 1, 1};
    thalweg_options sgd = thalweg_options_of(THALWEG_SGD);
    thalweg_tensor tensor = {0};
    sgd.lr = 0.5;
    tensor.size = sizeof tensor;
    tensor.p = p, tensor.g = g, tensor.len = 3, tensor.step = 1;
    if (thalweg_update(&tensor, 1, &sgd, 1, NULL) != THALWEG_DONE) return 1;
    printf("%g %g %g %s %d\\n", (double)p[0], (double)p[1], (double)p[2], thalweg_version(),
           thalweg_abi() == THALWEG_ABI);
    return 0;
}
"""


def ran(*command: Any, **how: Any) -> str:
    done = subprocess.run(  # noqa: S603 - our own programs
        [str(part) for part in command], capture_output=True, text=True, check=False, **how
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prefix in which the library is installed."""
    built()
    path = tmp_path_factory.mktemp("prefix")
    ran(SOURCE / "install", path)
    return path


def fields() -> dict[str, list[str]]:
    """Structs of the header and their fields, in order."""
    found = {}
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(encoding="utf-8"), flags=re.DOTALL)
    for body, name in re.findall(r"typedef struct \w+ \{(.*?)\} (\w+);", text, re.DOTALL):
        names: list[str] = []
        for declaration in body.split(";"):
            parts = [part for part in declaration.replace("*", " ").split(",") if part.strip()]
            names += [re.sub(r"\[.*", "", part).split()[-1] for part in parts]
        found[name] = names
    return found


def recorded() -> dict[str, dict[str, int]]:
    """The layout that the library is compiled to have."""
    text = (SOURCE / "layout.rs").read_text(encoding="utf-8").split("layout! {")[1]
    found = {}
    for name, size, body in re.findall(r"(\w+) (\d+) \{(.*?)\}", text, re.DOTALL):
        offsets = {field: int(at) for field, at in re.findall(r"(\w+) (\d+)", body)}
        found[f"thalweg_{name.lower()}"] = {**offsets, "": int(size)}
    return found


@pytest.mark.parametrize(
    ("compiler", "standard", "suffix"),
    [("cc", "c99", "c"), ("cc", "c11", "c"), ("c++", "c++11", "cc"), ("c++", "c++17", "cc")],
)
def test_the_header_is_c_and_cpp(
    compiler: str, standard: str, suffix: str, prefix: Path, tmp_path: Path
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    source, program = tmp_path / f"program.{suffix}", tmp_path / "program"
    text = PROGRAM if suffix == "c" else PROGRAM.replace("= {0}", "= {}")
    source.write_text(text, encoding="utf-8")
    static = [prefix / "lib" / "libthalweg.a", "-lm", "-lpthread", "-ldl"]
    shared = [f"-L{prefix}/lib", "-lthalweg", f"-Wl,-rpath,{prefix}/lib"]
    for libraries in (static, shared):
        flags = [f"-std={standard}", *STRICT, f"-I{prefix}/include"]
        ran(compiler, *flags, source, "-o", program, *libraries)
        assert ran(program) == "0.5 1.5 2.5 0.1.0 1\n"


def test_the_layout_is_that_of_the_library(tmp_path: Path) -> None:
    built()
    wanted = recorded()
    names = fields()
    assert {name: [*layout][:-1] for name, layout in wanted.items()} == names
    prints = "".join(
        f'printf("{name} {field} %zu\\n", offsetof({name}, {field}));'
        for name in names
        for field in names[name]
    ) + "".join(f'printf("{name}  %zu\\n", sizeof({name}));' for name in names)
    source = tmp_path / "layout.c"
    source.write_text(
        f'#include "thalweg.h"\n#include <stdio.h>\nint main(void) {{ {prints} return 0; }}',
        encoding="utf-8",
    )
    # The defaults are not called, so the library is not needed.
    ran("cc", f"-I{SOURCE}", "-O1", source, "-o", tmp_path / "layout")
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    for line in ran(tmp_path / "layout").splitlines():
        name, field, at = line.split(" ")
        found[name][field] = int(at)
    assert found == wanted
    for struct in (Options, Tensor, Step):
        layout = wanted[f"thalweg_{struct.__name__.lower()}"]
        assert c.sizeof(struct) == layout[""]
        assert all(getattr(struct, field).offset == layout[field] for field in layout if field)


def test_the_symbols_are_those_of_the_header() -> None:
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(encoding="utf-8"), flags=re.DOTALL)
    declared = set(re.findall(r"\b(thalweg_\w+)\(", text)) - {"thalweg_options_of"}
    shared = built() / "libthalweg_capi.so"
    exported = {line.split()[-1] for line in ran("nm", "-D", "--defined-only", shared).splitlines()}
    assert exported == declared


def test_the_shared_library_is_small_and_needs_only_libc() -> None:
    shared = built() / "libthalweg_capi.so"
    assert shared.stat().st_size < 2_500_000
    dynamic = ran("readelf", "-d", shared)
    needed = re.findall(r"NEEDED.*\[(.*)\]", dynamic)
    allowed = re.compile(r"lib(c|m|gcc_s|dl|pthread)\.so\.\d|ld-linux.*")
    assert needed
    assert all(allowed.fullmatch(name) for name in needed), needed
    abi = library().thalweg_abi()
    assert re.findall(r"SONAME.*\[(.*)\]", dynamic) == [f"libthalweg.so.{abi}"]


def test_what_is_installed(prefix: Path) -> None:
    files = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file()}
    assert files == {
        "include/thalweg.h",
        "lib/libthalweg.a",
        "lib/libthalweg.so",
        "lib/libthalweg.so.0",
        "lib/libthalweg.so.0.1.0",
        "lib/pkgconfig/thalweg.pc",
    }
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed")
    path = {"PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig"), "PATH": "/usr/bin:/bin"}
    assert ran("pkg-config", "--modversion", "thalweg", env=path) == "0.1.0\n"
    flags = ran("pkg-config", "--cflags", "--libs", "thalweg", env=path).split()
    assert flags == [f"-I{prefix}/include", f"-L{prefix}/lib", "-lthalweg"]


def test_the_version_is_that_of_the_package() -> None:
    manifest = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "(.*)"', manifest, re.MULTILINE)
    assert found is not None
    assert library().thalweg_version().decode() == found[1]

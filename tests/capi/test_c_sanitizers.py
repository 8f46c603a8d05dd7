"""The C library and a host with threads, under AddressSanitizer and ThreadSanitizer."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest
from c_library import ROOT, SOURCE, built
from test_c_header import ran

PROGRAM = Path(__file__).parent / "threads.c"
# The standard library is not instrumented, so the order that its locks make is not seen: `OnceLock`
# in the first, `Mutex` in the second.
SUPPRESSED = "race:levels::Level>::current\nrace:record_locks::listed\n"
REPORTS = {"address": "heap-buffer-overflow", "thread": "data race"}

pytestmark = pytest.mark.slow


def sanitized(sanitizer: str, folder: Path) -> Path:
    """The program with the library, both compiled with a sanitizer."""
    built()
    libraries = Path(ran("rustc", "--print", "target-libdir").strip())
    runtimes = list(libraries.glob(f"librustc-*_rt.{sanitizer[0]}san.a"))
    if platform.machine() != "x86_64" or not runtimes:
        pytest.skip("this Rust has no sanitizers")
    target = "x86_64-unknown-linux-gnu"
    command = ["cargo", "rustc", "--quiet", "--package", "thalweg-capi", "--lib"]
    command += ["--crate-type", "staticlib", "--target", target]
    flags = f"-Zsanitizer={sanitizer} -Cunsafe-allow-abi-mismatch=sanitizer"
    environment = {
        **os.environ,
        "RUSTC_BOOTSTRAP": "1",
        "RUSTFLAGS": flags,
        "CARGO_TARGET_DIR": str(folder / "target"),
    }
    ran(*command, cwd=ROOT, env=environment)
    made, program = folder / "threads.o", folder / "threads"
    ran("cc", "-O1", "-g", f"-fsanitize={sanitizer}", "-c", PROGRAM, "-o", made, f"-I{SOURCE}")
    library = folder / "target" / target / "debug" / "libthalweg_capi.a"
    whole = ["-Wl,--whole-archive", runtimes[0], "-Wl,--no-whole-archive"]
    ran("cc", "-no-pie", made, "-o", program, *whole, library, "-lm", "-lpthread", "-ldl", "-lrt")
    return program


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_a_host_with_threads(sanitizer: str, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    library = built() / "libthalweg_capi.a"
    ran("cc", "-O1", PROGRAM, "-o", plain, f"-I{SOURCE}", library, "-lm", "-lpthread", "-ldl")
    digest = ran(plain, tmp_path)
    program = sanitized(sanitizer, tmp_path)
    suppressed = tmp_path / "suppressed"
    suppressed.write_text(SUPPRESSED, encoding="utf-8")
    environment = {**os.environ, "TSAN_OPTIONS": f"suppressions={suppressed}"}
    assert ran(program, tmp_path, env=environment) == digest
    # It sees a host that updates the rows of another thread, and rows beyond the end.
    done = subprocess.run(  # noqa: S603 - our own program
        [program, tmp_path, "fault"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert REPORTS[sanitizer] in done.stderr

"""Failing system calls during a save or a load: only one file stays, the old or the new."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import crash
from conftest import unchanged
from crash import needs_compiler
from thalweg import read_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

LARGE = 400_000
NAME, PARTIAL = "run.safetensors", "run.safetensors.partial"


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"LD_PRELOAD": str(crash.library(tmp_path_factory.mktemp("library")))}


@needs_compiler
@pytest.mark.parametrize(("size", "old"), [(10, "old"), (10, "none"), (LARGE, "old")])
def test_every_system_call_of_a_save_may_fail_or_be_the_last(
    size: int, old: str, tmp_path: Path, preloaded: dict[str, str]
) -> None:
    whole, *trials = crash.program("calls", tmp_path, size, old, environment=preloaded)
    seen = whole["seen"]
    assert whole["files"] == {NAME: "new"}
    # In any other order, a power failure could leave a name without its content.
    writes = [i for i, call in enumerate(seen) if call == f"write {PARTIAL}"]
    assert len(writes) > (4 if size == LARGE else 1)
    flushed, renamed = seen.index(f"fsync {PARTIAL}"), seen.index(f"rename {NAME}")
    assert max(writes) < flushed < renamed < seen.index("fsync .")
    assert {call.split()[0] for call in seen} >= {"create", "lock", "write", "fsync", "rename"}
    assert len(trials) > 4 * len(seen)

    before = {NAME: "old"} if old == "old" else {}
    for trial in trials:
        call, mistake, error = trial["call"], trial["mistake"], trial["error"]
        files, in_place = trial["files"], call in ("fsync .", f"rename {NAME}")
        assert trial["after"] == {NAME: "next"}, trial
        if mistake in ("EINTR", "less"):
            assert (error, files) == (None, {NAME: "new"}), trial
        elif mistake.startswith("killed"):
            assert trial["status"] == -signal.SIGKILL, trial
            files.pop(PARTIAL, None)
            done = call == "fsync ." or (in_place and mistake == "killed after")
            assert files == ({NAME: "new"} if done else before), trial
        else:
            number, path = getattr(errno, mistake), str(tmp_path / NAME)
            assert error["errno"] == number, trial
            assert os.strerror(number) in error["text"], trial
            expected = {"create": f"{path}.partial", "lock": f"{path}.partial"}
            expected["open"] = str(tmp_path)
            assert error["path"] == expected.get(call.split()[0], path), trial
            if call == "fsync .":
                assert files == {NAME: "new"}, trial
                assert "flush the directory" in error["text"], trial
            else:
                assert files == before, trial


@needs_compiler
def test_every_read_of_a_load_may_fail(tmp_path: Path, preloaded: dict[str, str]) -> None:
    trials = crash.program("reads", tmp_path, environment=preloaded)
    torn = 0
    for trial in trials:
        error = trial["error"]
        assert trial["loaded"], trial
        if trial["mistake"] in ("EINTR", "less"):
            assert error is None, trial
            continue
        if error is None:  # cut after the last byte to be read
            assert trial["mistake"] == "cut", trial
            continue
        if trial["mistake"] == "EIO":
            assert (error["errno"], error["path"]) == (errno.EIO, str(tmp_path / NAME)), trial
        else:
            assert error["type"] == "ValueError", trial
            assert "was changed while it was read" in error["text"], trial
        if not trial["unchanged"]:
            torn += 1
            for refused in (trial["step"], trial["save"]):
                assert refused["type"] == "ValueError", trial
                assert "loading was interrupted" in refused["text"], trial
    assert 0 < torn < len(trials) - torn


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize("old", [True, False])
def test_a_save_beyond_the_limit_of_file_size_is_refused(old: bool, tmp_path: Path) -> None:
    import resource  # noqa: PLC0415 - not on Windows

    path, opt = tmp_path / NAME, crash.made(500)
    crash.stepped(opt)
    opt.save(path)
    size = path.stat().st_size
    opt.save(path, extra="old")
    raw = path.read_bytes()
    if not old:
        path.unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in [*range(0, size, 97), 44, 45, 46, 76, 77, size - 1]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(OSError, match="cannot write it") as refused:
                opt.save(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (refused.value.errno, refused.value.filename) == (errno.EFBIG, str(path))
        assert [file.name for file in tmp_path.iterdir()] == [NAME] * old
        assert not old or path.read_bytes() == raw
    opt.save(path)
    assert read_checkpoint(path).state_dict["step_count"] == 1


MOUNTED = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]


def can_mount(where: Path) -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(  # noqa: S603
        [*MOUNTED, f"mount -t tmpfs none '{where}'"], check=False, capture_output=True
    )
    return tried.returncode == 0


def test_a_full_or_read_only_disk_keeps_the_old_file(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("the system does not let this process mount a disk of its own")
    mount = f'mount -t tmpfs -o size=1m none \'{tmp_path}\' && exec "$0" "$@"'
    *trials, read_only = crash.program("full", tmp_path, before=[*MOUNTED, mount])
    full = [trial for trial in trials if trial["error"]]
    # The file takes 242 kB, and the disk allocates whole pages.
    assert all((trial["error"] is None) == (trial["room"] > 250_000) for trial in trials)
    assert len(trials) > len(full) > 10
    for trial in trials:
        assert trial["files"] == {NAME: "old" if trial["error"] else "new"}, trial
    for trial in full:
        assert trial["error"]["errno"] == errno.ENOSPC, trial
        assert trial["error"]["path"].startswith(str(tmp_path / NAME)), trial
    assert read_only["error"]["errno"] == errno.EROFS
    assert read_only["files"] == {NAME: "old"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_a_directory_without_permission_to_write_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    path, opt = tmp_path / NAME, crash.made()
    opt.save(path)
    raw = path.read_bytes()
    tmp_path.chmod(0o500)
    try:
        with unchanged(opt), pytest.raises(PermissionError) as refused:
            opt.save(path)
    finally:
        tmp_path.chmod(0o700)
    assert refused.value.filename == str(tmp_path / PARTIAL)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {NAME: raw}


def limited(tmp_path: Path, files: dict[str, bytes]) -> list[Any]:
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
    return crash.program("claims", *[tmp_path / name for name in files])


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
def test_files_that_claim_huge_sizes_take_no_memory(tmp_path: Path) -> None:
    crash.made().save(tmp_path / "valid")
    valid = (tmp_path / "valid").read_bytes()
    entries, _ = crash.parts(valid)
    saved = entries["__metadata__"]["thalweg.optimizer"]
    begin, text = valid[:77], '{"__metadata__":{"thalweg.checksum":"' + "0" * 32
    texts = {"thalweg.optimizer": saved}
    large = crash.header(texts, [("params/b", "F64", [3]), ("params/w", "F32", [1 << 40])])
    largest = crash.header(texts, [("x", "U8", [(1 << 64) - 64])])
    empty = crash.header(texts, [("params/b", "F64", [3]), ("params/w", "F32", [1 << 60, 0])])
    # One tensor of a megabyte, with a hundred references to it.
    references = ",".join(['{"$tensor":"extra"}'] * 100)
    megabyte = crash.header(
        {"thalweg.extra": f"[{references}]", "thalweg.optimizer": "{}"},
        [("extra", "F64", [1 << 17])],
    )
    files = {
        "header of 100 MB": (100_000_000).to_bytes(8, "little") + begin[8:],
        "header of 2^63": (2**63).to_bytes(8, "little") + begin[8:],
        "header of 2^63 - 9": (2**63 - 9).to_bytes(8, "little") + begin[8:],
        "header of 2^64 - 1": (2**64 - 1).to_bytes(8, "little") + begin[8:],
        "tensor of 2^40": crash.framed(large, bytes(24)),
        "empty tensor of 2^60": crash.framed(empty, bytes(24)),
        "tensor of 2^64 - 64": crash.framed(largest),
        "many of one": crash.framed(megabyte, bytes(1 << 20)),
        "no metadata": crash.framed(text),
    }
    for product in ([1 << 32, 1 << 32], [1 << 63, 2], [1 << 61], [(1 << 64) - 1]):
        entry = {"dtype": "F64", "shape": product, "data_offsets": [0, 0]}
        whole = crash.header(texts, [("x", "F64", [])])
        whole = whole.replace('{"dtype":"F64","shape":[],"data_offsets":[0,8]}', str(entry))
        files[f"shape {product}"] = crash.framed(whole.replace("'", '"').replace(": ", ":"))
    told = limited(tmp_path, files)
    assert len(told) == len(files)
    for trial in told:
        for error in trial["errors"]:
            assert error, trial
            assert error["type"] == "ValueError", trial

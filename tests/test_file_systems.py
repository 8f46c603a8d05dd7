"""File systems without locks or flushed directories, and users without permissions."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import crash
import thalweg
from conftest import unchanged
from crash import filled, needs_compiler, value_of
from processes import in_fork, needs_fork
from thalweg import _core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__)
NAME = "run.safetensors"
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
WITHOUT_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
NOBODY = 65534


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(crash.library(tmp_path_factory.mktemp("library")))


def lacking(library: str, what: str, number: int) -> dict[str, str]:
    """Environment of a process in which `what` fails with the error `number`."""
    return {**os.environ, "LD_PRELOAD": library, f"LACKS_{what}": str(number)}


WRITERS = """
import json, os, sys, warnings
from pathlib import Path
import numpy as np
import thalweg
from crash import described
folder, action, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
warnings.simplefilter(action)

def save():
    thalweg.AdamW({"w": np.ones(3)}).save(folder / "save/run.safetensors")

def manage(**options):
    with thalweg.CheckpointManager(folder / "manager", **options) as manager:
        manager.save(thalweg.AdamW({"w": np.ones(3)}))

def background():
    manage(background=True)

def params():
    return thalweg.map_params(folder / "state", {"w": np.ones(3)})

def train():
    opt = thalweg.AdamW(params(), state_dir=folder / "state")
    opt.step({"w": np.ones(3)})
    opt.extend({**opt.params, **thalweg.map_params(folder / "state", {"more": np.ones(3)})})
    opt.close()
    for name in ("state", "params"):
        for path in (folder / "state" / name).iterdir():
            np.load(path)
    import shutil
    shutil.rmtree(folder / "state")
    (folder / "state").mkdir()

for name in sys.argv[4:]:
    for _ in range(times):
        with warnings.catch_warnings(record=action != "error") as seen:
            error = None
            try:
                globals()[name]()
            except (OSError, Warning) as caught:
                error = described(caught)
            told = [[str(w.message), w.category.__name__, w.filename] for w in seen or ()]
        files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        print(json.dumps({"name": name, "error": error, "warnings": told, "files": files}))
"""


def written(
    folder: Path, names: list[str], environment: dict[str, str], action: str = "always"
) -> list[dict[str, Any]]:
    """Outcomes of each of `names`, functions of `WRITERS`, called twice."""
    for name in ("save", "manager", "state"):
        (folder / name).mkdir()
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", WRITERS, folder, action, "2", *names],
        env=environment,
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@needs_compiler
@pytest.mark.parametrize("number", WITHOUT_LOCKS)
def test_without_locks_files_are_written_with_one_warning(
    number: int, library: str, tmp_path: Path
) -> None:
    names = ["save", "manage", "background", "train"]
    told = written(tmp_path, names, lacking(library, "LOCKS", number))
    assert [trial["error"] for trial in told] == [None] * len(told)
    assert len(told) == 2 * len(names)
    for trial in told:
        assert [name for name in trial["files"] if name.endswith(".partial")] == [], trial
    said = {trial["name"]: [] for trial in told}
    for trial in told:
        said[trial["name"]] += trial["warnings"]
    assert said["background"] == []  # `manage` has warned of the same directory
    places = {"save": "save", "manage": "manager", "train": "state"}
    for name, place in places.items():
        ((message, category, filename),) = said[name]
        assert f"'{tmp_path / place}' is on a file system without locks" in message
        assert os.strerror(number) in message
        assert "warnings.filterwarnings('ignore', category=thalweg.UnlockedWarning)" in message
        assert (category, filename) == ("UnlockedWarning", "<string>")
    thalweg.AdamW({"w": np.ones(3)}).load(tmp_path / "save" / NAME)
    assert thalweg.CheckpointManager(tmp_path / "manager").latest() is not None


@needs_compiler
def test_without_locks_nothing_is_written_if_warnings_are_errors(
    library: str, tmp_path: Path
) -> None:
    environment = lacking(library, "LOCKS", errno.ENOLCK)
    names = ["save", "manage", "background", "params", "train"]
    told = written(tmp_path, names, environment, "error")
    assert len(told) == 2 * len(names)
    for trial in told:  # the second time like the first
        assert trial["error"]["type"] == "UnlockedWarning", trial
        assert {Path(name).name for name in trial["files"]} <= {".lock", ".state.lock"}, trial


@needs_compiler
def test_another_failure_of_a_lock_is_an_error(library: str, tmp_path: Path) -> None:
    names = ["save", "manage", "params"]
    for trial in written(tmp_path, names, lacking(library, "LOCKS", errno.EIO)):
        assert trial["error"]["errno"] == errno.EIO, trial
        assert trial["error"]["path"].startswith(str(tmp_path)), trial


SAVER = """
import sys, warnings
import thalweg
from crash import filled
warnings.simplefilter("ignore", thalweg.UnlockedWarning)
opt = filled(float(sys.argv[2]))
print("ready", flush=True)
sys.stdin.read(1)
for _ in range(30):
    opt.save(sys.argv[1])
"""


@needs_compiler
def test_two_processes_save_to_one_path_without_a_lock(library: str, tmp_path: Path) -> None:
    path = tmp_path / NAME
    filled(3.0).save(path)
    savers = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", SAVER, path, value],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE.parent,
            env=lacking(library, "LOCKS", errno.ENOLCK),
        )
        for value in ("1", "2")
    ]
    for saver in savers:
        assert saver.stdout
        assert saver.stdout.readline() == "ready\n"
    for saver in savers:
        assert saver.stdin
        saver.stdin.write("g")
        saver.stdin.close()
    seen = {value_of(path)}
    while any(saver.poll() is None for saver in savers):
        seen.add(value_of(path))
    for saver in savers:
        assert saver.stdout
        saver.stdout.close()
    assert [saver.returncode for saver in savers] == [0, 0]
    assert seen <= {1.0, 2.0, 3.0}
    assert len(seen) > 1
    assert [file.name for file in tmp_path.iterdir()] == [NAME]


LEFT = """
import sys, warnings
from pathlib import Path
import numpy as np
import thalweg
warnings.simplefilter("ignore", thalweg.UnlockedWarning)
folder = Path(sys.argv[1])
opt = thalweg.AdamW({"w": np.ones(3)})
opt.save(folder / "run.safetensors")
with thalweg.CheckpointManager(folder) as manager:
    manager.save(opt)
"""


@needs_compiler
def test_without_locks_a_manager_removes_the_leftovers_of_a_kill(
    library: str, tmp_path: Path
) -> None:
    """A manager owns its directory, and removes leftovers; others may still be in use, and stay."""
    stays = f"{NAME}.0123456789abcdef.partial"
    (tmp_path / stays).write_bytes(b"part")
    old = "checkpoint-00000001-step-0.safetensors"
    for name in (f"{old}.0123456789abcdef.partial", f"{old}.partial"):
        (tmp_path / name).write_bytes(b"part")
    subprocess.run(  # noqa: S603
        [sys.executable, "-c", LEFT, tmp_path],
        env=lacking(library, "LOCKS", errno.ENOLCK),
        check=True,
        timeout=60,
    )
    saved = "checkpoint-00000002-step-0.safetensors"
    assert {path.name for path in tmp_path.iterdir()} == {".lock", NAME, saved, stays}


@needs_compiler
@pytest.mark.parametrize("number", WITHOUT_FLUSH)
def test_without_flushing_of_directories_all_is_written(
    number: int, library: str, tmp_path: Path
) -> None:
    names = ["save", "manage", "background", "train"]
    told = written(tmp_path, names, lacking(library, "FLUSH", number))
    assert len(told) == 2 * len(names)
    assert [(trial["error"], trial["warnings"]) for trial in told] == [(None, [])] * len(told)


@needs_compiler
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failed_flush_names_the_directory(number: int, library: str, tmp_path: Path) -> None:
    told = written(tmp_path, ["save", "manage", "params"], lacking(library, "FLUSH", number))
    for trial in told:
        error = trial["error"]
        if trial["name"] == "params" and error is None:  # the second time, the files exist
            continue
        assert error["errno"] == number, trial
        assert error["path"].startswith(str(tmp_path)), trial


# System errors that do not name a file.


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize(
    ("limit", "name"), [(140, "optimizer.json"), (100, "progress"), (0, ".state.lock")]
)
def test_a_file_of_a_state_dir_may_not_grow_as_large_as_it_must(
    limit: int, name: str, tmp_path: Path
) -> None:
    import resource  # noqa: PLC0415 - not on Windows

    params = thalweg.map_params(tmp_path, {"w": np.ones(1)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match="cannot write it") as refused:
            thalweg.SGD(params, lr=0.1, state_dir=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (refused.value.errno, refused.value.filename) == (errno.EFBIG, str(tmp_path / name))
    assert [path.name for path in tmp_path.rglob("*.partial")] == []
    assert thalweg.SGD(params, lr=0.1, state_dir=tmp_path).step_count == 0


def test_a_disk_that_is_full_names_the_file_of_an_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    params = thalweg.map_params(tmp_path, {"w": np.ones(3)})
    opt = thalweg.AdamW(params, state_dir=tmp_path)
    opt.step({"w": np.ones(3)})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as refused:
        opt.flush()
    assert Path(refused.value.filename) in {*tmp_path.rglob("*.npy")}  # any of the files
    monkeypatch.undo()
    opt.close()


# A user other than root.


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that all users may write to, and whose parents are not private."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o777)
    yield directory
    directory.chmod(0o777)
    shutil.rmtree(directory)


def as_user(work: Callable[[], object]) -> str:
    """Result of `work` in a child process that is not root."""

    def said() -> str:
        if os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        return str(work())

    return in_fork(said)


@needs_fork
def test_a_leftover_does_not_prevent_a_save_over_a_read_only_file(shared: Path) -> None:
    path, leftover = shared / NAME, shared / f"{NAME}.partial"
    opt = crash.made()

    def save() -> str:
        opt.save(path)
        path.chmod(0o444)
        leftover.write_bytes(b"part")  # as after a kill before the rename
        leftover.chmod(0o444)
        crash.stepped(opt)
        opt.save(path, extra="saved")
        return f"{path.stat().st_mode & 0o777:o} {thalweg.read_checkpoint(path).extra}"

    assert as_user(save) == "444 saved"
    assert [file.name for file in shared.iterdir()] == [NAME]


@needs_fork
def test_a_leftover_of_another_user_does_not_prevent_a_save(shared: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be two users")
    (shared / f"{NAME}.partial").write_bytes(b"part")
    (shared / f"{NAME}.partial").chmod(0o644)

    def save() -> str:
        crash.made().save(shared / NAME)
        return ", ".join(file.name for file in shared.iterdir())

    assert as_user(save) == NAME


@needs_fork
def test_a_read_only_file_that_is_being_saved_is_left_alone(shared: Path) -> None:
    path, partial = shared / NAME, shared / f"{NAME}.partial"
    writer = _core.DirectoryLock(shared, partial.name)  # like a save that is about to rename it
    partial.chmod(0o444)
    owner = os.getpid()

    def save() -> str:
        opt = crash.made()
        with unchanged(opt), pytest.raises(thalweg.BusyError, match=f"locked by process {owner};"):
            opt.save(path)
        return "refused"

    assert as_user(save) == "refused"
    assert partial.exists()
    with pytest.raises(thalweg.BusyError, match=f"locked by process {owner};"):
        crash.made().save(path)
    writer.release()
    assert as_user(lambda: crash.made().save(path)) == "None"


@needs_fork
def test_a_directory_without_permission_to_read_can_be_written(shared: Path) -> None:
    shared.chmod(0o333)

    def write() -> str:
        crash.made().save(shared / NAME)
        params = thalweg.map_params(shared, {"w": np.ones(3)})
        opt = thalweg.AdamW(params, state_dir=shared)
        opt.step({"w": np.ones(3)})
        opt.close()
        return f"{opt.step_count}"

    assert as_user(write) == "1"
    thalweg.read_checkpoint(shared / NAME)

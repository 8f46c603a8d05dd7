"""Failures around checkpoints: files made by hand, failing system calls, killed processes.

As a program, it is the process that is killed or whose system calls fail:

    python tests/crash.py train DIRECTORY
    python tests/crash.py calls DIRECTORY SIZE OLD
    python tests/crash.py reads DIRECTORY
    python tests/crash.py full DIRECTORY
    python tests/crash.py claims FILE...
"""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import shutil
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xxhash

import thalweg
from conftest import snapshot
from runs import Run
from thalweg import AdamW, read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HERE = Path(__file__)
SLOT = slice(45, 77)
"""Bytes of a file that hold its checksum."""
FAIL, LESS, KILL_BEFORE, KILL_AFTER, TRUNCATE = range(1, 6)
"""What the preloaded library, `crash.c`, does to a call."""
LARGE = 2_000_000
"""Elements of `filled` for a file of 24 MB, which takes a while to write."""
SIZES = {"U8": 1, "BOOL": 1, "F16": 2, "BF16": 2, "F32": 4, "I32": 4, "F64": 8, "I64": 8}


# Files made by hand, from the documented format.


def signed(raw: bytes) -> bytes:
    """The file `raw` with the correct checksum."""
    zeroed = raw[: SLOT.start] + b"0" * 32 + raw[SLOT.stop :]
    return raw[: SLOT.start] + xxhash.xxh3_128_hexdigest(zeroed).encode() + raw[SLOT.stop :]


def framed(header: str, body: bytes = b"") -> bytes:
    """A file of a header, from its opening brace on, and a body."""
    text = header.encode()
    text += b" " * (-(8 + len(text)) % 64)
    return signed(len(text).to_bytes(8, "little") + text + body)


def header(metadata: Mapping[str, str], tensors: Sequence[tuple[str, str, Sequence[int]]]) -> str:
    """Text of a header; `tensors` are (name, dtype, shape), in the order of the file."""
    said = {"thalweg.checksum": "0" * 32, "thalweg.format": "1", **metadata}
    entries: dict[str, Any] = {"__metadata__": said}
    end = 0
    for name, dtype, shape in tensors:
        start, end = end, end + SIZES[dtype] * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    return json.dumps(entries, ensure_ascii=False, separators=(",", ":"))


def parts(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and body of a file."""
    body = 8 + int.from_bytes(raw[:8], "little")
    return json.loads(raw[8:body]), raw[body:]


def with_texts(raw: bytes, **texts: str | None) -> bytes:
    """A valid file with texts of its metadata (`optimizer`, `extra`) replaced; None removes one."""
    entries, body = parts(raw)
    metadata = entries.pop("__metadata__")
    for key, text in texts.items():
        metadata[f"thalweg.{key}"] = text
    # Checksum and format come first, then the others by name.
    first = ["thalweg.checksum", "thalweg.format"]
    order = sorted(metadata, key=lambda key: (key not in first, key))
    said = {key: metadata[key] for key in order if metadata[key] is not None}
    entries = {"__metadata__": said, **entries}
    return framed(json.dumps(entries, ensure_ascii=False, separators=(",", ":")), body)


# The preloaded library.

needs_compiler = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler"
)


def library(directory: Path) -> Path:
    """Compile the library; needs Linux and a C compiler."""
    made = directory / "crash.so"
    source = HERE.with_suffix(".c")
    compiler = shutil.which("cc")
    assert compiler is not None
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    command = [compiler, *options, "-o", str(made), str(source), "-ldl"]
    subprocess.run(command, check=True)  # noqa: S603
    return made


class Watch:
    """Control of the preloaded library in this process."""

    def __init__(self, directory: Path) -> None:
        self._library = ctypes.CDLL(None)
        self._library.crash_seen.restype = ctypes.c_char_p
        self._directory = os.fsencode(directory.resolve())

    def begin(self, nth: int = 0, mode: int = 0, code: int = 0, *, reads: bool = False) -> None:
        """Record calls (with `reads`, only reads), and apply `mode` to the nth."""
        self._library.crash_watch(self._directory, nth, mode, code, int(reads))

    def end(self) -> list[str]:
        """Stop recording; return each call with the name of its file."""
        seen: bytes = self._library.crash_seen()
        return seen.decode().splitlines()


def program(
    *arguments: Any, before: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> list[Any]:
    """Run this file as a program, and return the lines of JSON that it prints."""
    command = [*before, sys.executable, HERE, *arguments]
    done = subprocess.run(  # noqa: S603
        [str(word) for word in command],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def tell(**values: Any) -> None:
    """Print the values as a line of JSON, in a single write."""
    os.write(1, json.dumps(values).encode() + b"\n")


def described(error: BaseException | None) -> Any:
    """An exception as a value of JSON."""
    if error is None:
        return None
    told = {"type": type(error).__name__, "text": str(error)}
    if isinstance(error, OSError):
        told |= {"errno": error.errno, "path": error.filename}  # type: ignore[dict-item]
    return told


def raised(call: Callable[[], Any], *classes: type[BaseException]) -> BaseException | None:
    """The exception of one of `classes` that `call` raises, or None."""
    try:
        call()
    except classes as error:
        return error
    return None


# Optimizers and their files.


def made(size: int = 10, value: float = 1.0) -> AdamW:
    """An optimizer with a large and a small parameter."""
    return AdamW({"w": np.full(size, value, np.float32), "b": np.full(3, value)}, lr=0.1)


def stepped(opt: thalweg.Optimizer, value: float = 1.0) -> None:
    """Take a step in which every element of every gradient is `value`."""
    opt.step({name: np.full(a.shape, value, a.dtype) for name, a in opt.params.items()})


def filled(value: float, size: int = 200_000) -> AdamW:
    """An optimizer whose arrays hold one value."""
    opt = AdamW({"w": np.full(size, value, np.float32)}, lr=0.1)
    stepped(opt)
    for array in (opt.params["w"], opt.state["w"]["exp_avg"], opt.state["w"]["exp_avg_sq"]):
        array[...] = value
    return opt


def value_of(path: Path) -> float:
    """The one value in all arrays of a file of `filled`."""
    found = read_checkpoint(path)
    assert found.params
    leaf = found.state_dict["state"]["w"]
    values = [np.unique(a) for a in (found.params["w"], leaf["exp_avg"], leaf["exp_avg_sq"])]
    one: float = values[0][0]
    assert all(value.tolist() == [one] for value in values)
    return one


def contents(directory: Path, known: Mapping[str, bytes]) -> dict[str, str]:
    """Files of a directory, each with the key in `known` of the same bytes."""
    by_bytes = {raw: name for name, raw in known.items()}
    return {
        path.name: by_bytes.get(path.read_bytes(), "something else")
        for path in sorted(directory.iterdir())
    }


# Programs.


def position(run: Run) -> int:
    """Micro-steps that a run has taken."""
    return run.acc.count + 2 * (run.opt.step_count + run.opt.skip_count)


def train(directory: str) -> None:
    """For each line of input, fork a child that trains and saves, up to that many micro-steps.

    A forked child starts fast, since all modules are imported already.
    """
    path = Path(directory) / "run.safetensors"
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                run = Run("adamw")
                if path.exists():
                    run.load(path)
                    tell(loaded=position(run), fingerprint=run.fingerprint())
                while position(run) < int(line):
                    run.advance(1)
                    run.save(path)
                    tell(saved=position(run))
            finally:
                os._exit(0)
        tell(child=child)
        tell(ended=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


MISTAKES = {
    "ENOSPC": (FAIL, errno.ENOSPC),
    "EIO": (FAIL, errno.EIO),
    "EINTR": (FAIL, errno.EINTR),
    "less": (LESS, 0),
    "killed before": (KILL_BEFORE, 0),
    "killed after": (KILL_AFTER, 0),
}


class Saves:
    """Failing saves of one optimizer, each from the same file and state."""

    def __init__(self, folder: Path, size: int, *, old: bool) -> None:
        self.folder, self.old = folder, old
        self.path = folder / "run.safetensors"
        self.raw: dict[str, bytes] = {}
        self.contents: dict[str, thalweg.checkpoint.Checkpoint] = {}
        self.opt = made(size)
        for name in ("old", "new", "next"):
            stepped(self.opt)
            self.opt.save(self.path, extra=name)
            self.raw[name] = self.path.read_bytes()
            self.contents[name] = thalweg.read_checkpoint(self.path)
        self.watch = Watch(folder)

    def restore(self, name: str) -> None:
        """Set the optimizer to its state at one of the saves."""
        self.opt.load_state_dict(self.contents[name].state_dict)
        for key, array in (self.contents[name].params or {}).items():
            self.opt.params[key][...] = array

    def prepare(self) -> None:
        """Restore the old file, or no file, and the optimizer to save."""
        for found in self.folder.iterdir():
            found.unlink()
        if self.old:
            self.path.write_bytes(self.raw["old"])
            self.path.chmod(0o640)
        self.restore("new")

    def save(self, name: str) -> None:
        """Save the optimizer: the call under test."""
        self.opt.save(self.path, extra=name)

    def files(self) -> dict[str, str]:
        """Files of the folder, by their content."""
        return contents(self.folder, self.raw)

    def killed(self, nth: int, mode: int) -> int:
        """Exit code of a child that is killed while it saves."""
        child = os.fork()
        if child == 0:
            self.watch.begin(nth, mode)
            self.save("new")
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def failed(self, nth: int, mode: int, code: int) -> BaseException | None:
        """Exception of a save whose nth call fails."""
        self.watch.begin(nth, mode, code)
        error = raised(lambda: self.save("new"), OSError)
        self.watch.end()
        return error

    def trial(self, nth: int, mode: int, code: int) -> dict[str, Any]:
        """Outcome of a save whose nth call goes wrong, and of the next save."""
        self.prepare()
        kills = mode in (KILL_BEFORE, KILL_AFTER)
        status = self.killed(nth, mode) if kills else 0
        error = None if kills else self.failed(nth, mode, code)
        files = self.files()
        self.restore("next")
        self.save("next")
        told = {"error": described(error), "status": status, "files": files}
        return {**told, "after": self.files()}


def calls(directory: str, size: str, old: str) -> None:
    """Let each call of a save fail in each way, and print the outcomes."""
    saves = Saves(Path(directory), int(size), old=old == "old")
    saves.prepare()
    saves.watch.begin()
    saves.save("new")
    seen = saves.watch.end()
    tell(seen=seen, files=saves.files())
    counted = [line for line in seen if not line.startswith("unlink")]
    for nth, call in enumerate(counted, 1):
        for mistake, (mode, code) in MISTAKES.items():
            if call.startswith("write") or mistake not in ("EINTR", "less"):
                tell(call=call, mistake=mistake, **saves.trial(nth, mode, code))


def reads(directory: str) -> None:
    """Let each read of a load fail in each way, and print the state of the optimizer."""
    folder = Path(directory)
    path = folder / "run.safetensors"
    saved = made(400_000, 2.0)
    stepped(saved)
    saved.save(path)
    raw = path.read_bytes()
    watch = Watch(folder)
    opt = made(400_000)
    watch.begin(reads=True)
    opt.load(path)
    seen = watch.end()
    loaded = snapshot(opt)[:2], {name: a.tobytes() for name, a in opt.params.items()}
    mistakes = [("EIO", FAIL, errno.EIO), ("EINTR", FAIL, errno.EINTR), ("less", LESS, 0)]
    mistakes += [("cut", TRUNCATE, length) for length in (0, 100, len(raw) // 2, len(raw) - 1)]
    for nth in range(1, len(seen) + 1):
        for mistake, mode, code in mistakes:
            opt = made(400_000)
            stepped(opt, -1.0)
            before = snapshot(opt)
            watch.begin(nth, mode, code, reads=True)
            error = raised(lambda opt=opt: opt.load(path), OSError, ValueError)  # type: ignore[misc]
            watch.end()
            same = snapshot(opt) == before
            step = raised(lambda opt=opt: stepped(opt), ValueError) if not same else None  # type: ignore[misc]
            save = raised(lambda opt=opt: opt.save(folder / "other"), ValueError)  # type: ignore[misc]
            path.write_bytes(raw)
            opt.load(path)
            now = snapshot(opt)[:2], {name: a.tobytes() for name, a in opt.params.items()}
            tell(
                mistake=mistake,
                error=described(error),
                unchanged=same,
                step=described(step),
                save=described(save),
                loaded=now == loaded,
            )


def full(directory: str) -> None:
    """Save on a disk of a megabyte with too little room and with enough, then read-only."""
    folder = Path(directory)
    path, filler = folder / "run.safetensors", folder / "filler"
    opt = made(20_000)
    raw = {}
    for name in ("old", "new"):
        stepped(opt)
        opt.save(path, extra=name)
        raw[name] = path.read_bytes()
    for room in [*range(0, 300_000, 20_000), 4096, 500_000]:
        path.write_bytes(raw["old"])
        disk = os.statvfs(folder)
        filler.write_bytes(bytes(max(0, disk.f_bavail * disk.f_bsize - room)))
        error = raised(lambda: opt.save(path, extra="new"), OSError)
        files = contents(folder, raw)
        files.pop("filler")
        filler.unlink()
        tell(room=room, error=described(error), files=files)
    path.write_bytes(raw["old"])
    command = [shutil.which("mount") or "mount", "-o", "remount,ro", directory]
    subprocess.run(command, check=True)  # noqa: S603
    error = raised(lambda: opt.save(path), OSError)
    tell(room="read-only", error=described(error), files=contents(folder, raw))
    thalweg.read_checkpoint(path)


def claims(*files: str) -> None:
    """Read files that claim huge sizes, with 24 MB of memory to spare."""
    import resource  # noqa: PLC0415 - not on Windows

    opt = made()
    for path in files:  # the first call imports modules, which takes memory too
        raised(lambda path=path: thalweg.read_checkpoint(path), ValueError)  # type: ignore[misc]
        break
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + (24 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for path in files:
        # All exceptions: a MemoryError is no refusal, and must reach the test.
        errors = [
            raised(partial(call, path), Exception) for call in (thalweg.read_checkpoint, opt.load)
        ]
        tell(file=Path(path).name, errors=[described(error) for error in errors])


def main() -> None:
    """Run the program that the first argument names."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        programs = {function.__name__: function for function in (train, calls, reads, full, claims)}
        programs[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()

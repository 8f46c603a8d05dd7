"""State in memory-mapped files, and the record that tells whether they are whole.

The record is written natively, around everything that writes parameters or state; what it says is
judged here, when a directory is opened.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import threading
import weakref
from bisect import bisect_right
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg import _core
from thalweg.errors import BusyError
from thalweg.mapped.files import (
    LOCK,
    appearing,
    make_array,
    naming,
    open_array,
    quoted,
    replace_file,
    sync_directories,
    sync_file,
)
from thalweg.mapped.limits import memory_limit
from thalweg.mapped.memmap import file_place, memmap_below
from thalweg.mapped.progress import MAGIC, NOTHING, STEPS, WEIGHT, Word, boot_number, model_number
from thalweg.state.loading import STRUCTURAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from thalweg.optimizer import Optimizer

__all__ = ["StateDir"]

FORMAT = 1
KEYS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")

_OPEN: weakref.WeakSet[Optimizer] = weakref.WeakSet()


@dataclass
class Found:
    """What was in the directory before."""

    counts: tuple[int, int, int, float]
    steps: dict[str, int]
    number: int
    """Of the last writing."""
    flushed: int
    torn: bool
    """The record was removed, as after a step that was cut short."""


class StateDir:
    """The directory of an optimizer, locked: opened and judged here, written natively."""

    def __init__(
        self,
        state_dir: str | os.PathLike[str],
        rule: str,
        options: Mapping[str, Any],
        leaves: Mapping[str, Any],
    ) -> None:
        self.path = Path(os.fspath(state_dir)).resolve()
        if not self.path.is_dir():
            raise ValueError(
                f"state_dir {self.path} is no directory; parameters are made there first: "
                f"params = thalweg.map_params({str(self.path)!r}, params)"
            )
        self._model = {"rule": rule, **{key: options[key] for key in STRUCTURAL}}
        self._process = os.getpid()
        self._closed = False
        self._maps: dict[int, tuple[Any, Path]] = {}
        self._words: np.memmap[Any, np.dtype[np.uint64]] | None = None
        self._saved: dict[str, Any] = {}
        self._mutex = threading.Lock()
        if _core.is_locked_here(self.path, LOCK):
            gc.collect()  # an optimizer and its groups refer to each other
        self._lock = _core.DirectoryLock(self.path, LOCK)
        try:
            self.found = self._look(leaves)
        except BaseException:
            self._lock.release()
            raise

    def _look(self, leaves: Mapping[str, Any]) -> Found:
        """What is there, if it is of this model and whole."""
        record, told = self.path / "progress", self.path / "optimizer.json"
        fresh = Found((0, 0, 0, 0.0), {}, 0, NOTHING, torn=told.exists())
        if not told.exists():
            # Only a constructor that was cut short leaves a record alone.
            if record.exists() and _words(record)[Word.BEGUN : Word.BEGUN + 1].any():
                raise ValueError(
                    f"{told} is missing, and {record} says that something was trained; put it "
                    "back, or remove what else is there to begin anew"
                )
            return fresh
        self._saved = _read(told)
        self._refuse_others(leaves)
        return self._judge(_words(record), leaves) if record.exists() else fresh

    def _refuse_others(self, leaves: Mapping[str, Any]) -> None:
        """List what is another model than the one that was here."""
        saved, found = self._saved, []
        for key, here in self._model.items():
            if saved["model"].get(key) != here:
                found.append(f"{key}: {saved['model'].get(key)!r} there, {here!r} here")
        there = saved["parameters"]
        found += [f"parameter {name!r} is there and not here" for name in there.keys() - leaves]
        found += [f"parameter {name!r} is here and not there" for name in leaves.keys() - there]
        for name in sorted(there.keys() & leaves):
            told, here = there[name], leaves[name]
            if told is not None and isinstance(here, np.ndarray):
                described = self._described(here)
                for key in told.keys() & described:
                    if told[key] != described[key]:
                        found.append(
                            f"{key} of parameter {name!r}: {told[key]!r} there, {described[key]!r} "
                            "here"
                        )
        if found:
            listed = "\n- ".join(sorted(found))
            raise ValueError(f"state_dir {self.path} is of another optimizer:\n- {listed}")

    def _judge(self, words: NDArray[np.uint64], leaves: Mapping[str, Any]) -> Found:
        """What the record says, if arrays are as they were between two steps."""
        names = sorted(leaves)
        whole = (
            len(words) == STEPS + len(names)
            and words[Word.MAGIC] == MAGIC
            and words[Word.FORMAT] == FORMAT
            and words[Word.MODEL] == model_number(self._model, names)
        )
        if not whole:
            raise ValueError(
                f"{self.path / 'progress'} is no record of this optimizer, or one that was cut "
                f"short; {self._way_on()}"
            )
        begun, finished, flushed = (
            int(words[at]) for at in (Word.BEGUN, Word.FINISHED, Word.FLUSHED)
        )
        count = int(words[Word.COUNTERS])
        if begun != finished:
            raise ValueError(
                f"a step in {self.path} was cut short (writing number {begun}; step_count is "
                f"{count}): parameters and state are part old and part new; {self._way_on()}"
            )
        if int(words[Word.BOOT]) not in {boot_number()} - {0} and flushed != finished:
            raise ValueError(
                f"the machine was started anew since {self.path} was written, and what was written "
                f"last (number {finished}; step_count is {count}) may not have reached the disk: "
                "parameters and state may be part old and part new (opt.flush() is the way to be "
                f"sure); {self._way_on()}"
            )
        skips, consecutive = (int(words[Word.COUNTERS + at]) for at in (1, 2))
        weight = float(words[WEIGHT : WEIGHT + 1].view("<f8")[0])
        steps = dict(zip(names, map(int, words[STEPS:]), strict=True))
        return Found((count, skips, consecutive, weight), steps, finished, flushed, torn=False)

    def _way_on(self) -> str:
        checkpoint = self._saved.get("checkpoint")
        if checkpoint is None:
            return (
                "no checkpoint was saved or loaded by this optimizer, so begin anew: remove what "
                "is in the directory"
            )
        return (
            f"the last checkpoint is {checkpoint}: remove {self.path / 'progress'}, make the "
            f"optimizer again as now, and opt.load({checkpoint!r}), which overwrites all of it"
        )

    def kept(self) -> dict[str, int]:
        """How many state arrays are there for each parameter that has trained."""
        names = {name for name, step in self.found.steps.items() if step}
        return {name: sum(self._file(name, key).exists() for key in KEYS) for name in names}

    def _file(self, name: str, key: str) -> Path:
        return self.path / "state" / f"{quoted(name)}.{key}.npy"

    def make(
        self, asked: Iterable[tuple[str, NDArray[Any], list[str]]]
    ) -> list[list[NDArray[Any]]]:
        """State of parameters that begin to train, or go on; called natively."""
        self._refuse_writing()
        asked = list(asked)
        self.check({name: array for name, array, _ in asked})
        files = [(name, a, key, self._file(name, key)) for name, a, keys in asked for key in keys]
        trained = {name for name, _, _ in asked if self.found.steps.get(name)}
        for name, _, key, path in files:
            if name in trained and not path.exists():
                raise ValueError(
                    f"{path} is missing, {key} of a parameter ({name!r}) that was trained without "
                    "it or lost it; put it back, or keep the options that it was trained with"
                )
        for name, array, _, path in files:
            if name not in trained:  # what is there is of another run
                with appearing(path, self._lock.ending) as made:
                    make_array(made, array, copied=False)
        opened = {path: open_array(path, f"{key} of {name!r}", a) for name, a, key, path in files}
        return [[opened[self._file(name, key)] for key in keys] for name, _, keys in asked]

    def _refuse_writing(self) -> None:
        """Refuse to make files where the directory is somebody else's, as the native code does."""
        if self._process != os.getpid():
            raise ValueError(
                "this process was forked from the one that trains the arrays of this state_dir, "
                "which they belong to; train in that process, or on copies (copy.deepcopy((params, "
                "opt)))"
            )
        if self._closed:
            raise ValueError(
                "the optimizer was closed (opt.close()); make it again with the same state_dir"
            )

    def check(self, params: Mapping[str, Any]) -> None:
        """Refuse parameters that do not map files in the directory."""
        for name, array in params.items():
            if (what := self._foreign(array)) is not None:
                raise ValueError(
                    f"parameter {name!r} is {what}; with state_dir every parameter that trains "
                    "maps a file there, shared and writable (np.memmap of mode 'r+'): "
                    f"params = thalweg.map_params({str(self.path)!r}, params)"
                )

    def _foreign(self, array: Any) -> str | None:
        """What an array is that does not map a file in the directory."""
        mapped = memmap_below(array)
        if mapped is None or mapped.filename is None:
            return "an array in memory"
        file = Path(mapped.filename).resolve()
        if mapped.mode not in ("r+", "w+"):
            return f"a map of mode {mapped.mode!r}"
        if not file.is_relative_to(self.path):
            return f"a map of {file}"
        return None if file.exists() else f"a map of {file}, which is no longer there"

    def _described(self, array: NDArray[Any]) -> dict[str, Any]:
        found: dict[str, Any] = {"shape": list(array.shape), "dtype": array.dtype.str}
        mapped, place = memmap_below(array), file_place(array)
        if mapped is not None and mapped.filename is not None and place is not None:
            file = Path(mapped.filename).resolve()
            if file.is_relative_to(self.path):
                found["file"] = file.relative_to(self.path).as_posix()
                found["offset"] = place[2] + array.__array_interface__["data"][0]
        return found

    def begin(self, opt: Optimizer) -> None:
        """Hand over counters, and keep the record from now on."""
        found = self.found
        names = opt._updater.leaf_names()
        opt._updater.resume(found.counts, [found.steps.get(name, 0) for name in sorted(names)])
        self._write_record(opt, found.number, found.flushed, torn=found.torn)
        self.note(opt)
        weakref.finalize(opt, self.let_go).atexit = False
        _OPEN.add(opt)

    def _write_record(self, opt: Optimizer, number: int, flushed: int, *, torn: bool) -> None:
        steps = dict(zip(opt._updater.leaf_names(), opt._updater.leaf_steps(), strict=True))
        names = sorted(steps)
        words = np.zeros(STEPS + len(names), "<u8")
        words[Word.MAGIC], words[Word.FORMAT] = MAGIC, FORMAT
        words[Word.MODEL] = model_number(self._model, names)
        words[Word.BOOT] = boot_number()
        words[Word.BEGUN], words[Word.FINISHED] = number + torn, number
        words[Word.FLUSHED], words[Word.LEAVES] = flushed, len(names)
        words[Word.COUNTERS : Word.COUNTERS + 3] = (
            opt.step_count,
            opt.skip_count,
            (opt.consecutive_skips),
        )
        words[WEIGHT : WEIGHT + 1] = np.array([opt._updater.weight]).view("<u8")
        words[STEPS:] = [steps[name] for name in names]
        path = self.path / "progress"
        replace_file(path, words.tobytes(), self._lock.ending)
        with naming(path):
            self._words = np.memmap(path, "<u8", "r+")
        opt._updater.keep_record(self._words, torn, self._is_large(opt))

    def _is_large(self, opt: Optimizer) -> bool:
        """Whether a step's arrays would take more than half of the memory that there is."""
        trained = opt._trained()
        size = 2 * sum(array.nbytes for array in trained.values())
        for name, leaf in opt.state.items():
            size += sum(a.nbytes for key, a in leaf.items() if key != "step" and name in trained)
        return size > memory_limit() // 2

    def note(self, opt: Optimizer) -> None:
        """Put down which arrays are the optimizer's by now."""
        saved = self._saved.get("parameters", {})
        states = opt.state
        live = opt._trained() | {name: opt._params[name] for name in states}
        parameters = {name: saved.get(name) for name in sorted(opt._params)}
        parameters |= {name: self._described(array) for name, array in live.items()}
        self._tell({"format": FORMAT, "model": self._model, "parameters": parameters})
        self._maps = {}
        for name, array in live.items():
            kept = (a for key, a in states.get(name, {}).items() if key != "step")
            for mapped in map(memmap_below, (array, *kept)):
                if mapped is not None and mapped.filename is not None:
                    self._maps[id(mapped._mmap)] = mapped._mmap, Path(mapped.filename)  # type: ignore[attr-defined]

    def note_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Put down where a checkpoint is that has all there is; a thread may have saved it."""
        self._tell({"checkpoint": str(Path(os.fspath(path)).resolve())})

    def _tell(self, news: dict[str, Any]) -> None:
        with self._mutex:
            told = {"checkpoint": None, **self._saved, **news}
            if told != self._saved and self._process == os.getpid() and not self._closed:
                content = json.dumps(told, indent=1).encode()
                replace_file(self.path / "optimizer.json", content, self._lock.ending)
                self._saved = told

    def extended(self, opt: Optimizer) -> None:
        """Take in that there are more parameters."""
        if self._words is None or self._process != os.getpid():
            return
        number = int(self._words[Word.BEGUN])
        self._words[Word.BEGUN] = number + 1  # torn, until the new record takes its place
        self.note(opt)
        self._write_record(opt, number + 1, NOTHING, torn=self.found.torn)

    def mended(self) -> None:
        """All was loaded."""
        self.found.torn = False

    def flush(self) -> None:
        """Put everything on the disk, then that it is there. Nobody may write meanwhile."""
        words = self._words
        if words is None or self._process != os.getpid():
            return
        begun, finished, flushed = words[[Word.BEGUN, Word.FINISHED, Word.FLUSHED]]
        if flushed == finished or begun != finished:
            return
        files = {path for _, path in self._maps.values()}
        for mapped, path in self._maps.values():
            with naming(path):
                mapped.flush()
        for path in files:
            sync_file(path)
        sync_directories({path.parent for path in files} | {self.path})
        record = self.path / "progress"
        with naming(record):
            words.flush()
            words[Word.FLUSHED] = finished
            words.flush()
        sync_file(record)

    def let_go(self) -> None:
        """Flush, and give up the lock."""
        try:
            self.flush()
        finally:
            self._closed = True
            self._words = None
            self._maps = {}
            self._lock.release()


def owner_of(arrays: Mapping[str, Any]) -> Optimizer | None:
    """The optimizer that trains one of these arrays in files."""
    given = [_extent(array) for array in arrays.values() if isinstance(array, np.ndarray)]
    for opt in list(_OPEN):
        trained = _merged(_extent(array) for array in opt._trained().values())
        ends = [end for _, end in trained]
        for start, end in given:
            at = bisect_right(ends, start)
            if start < end and at < len(ends) and trained[at][0] < end:
                return opt
    return None


def _words(path: Path) -> NDArray[np.uint64]:
    with naming(path):
        return np.fromfile(path, "<u8")


def _merged(extents: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What extents cover together, in order."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(extents):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        elif start < end:
            merged.append((start, end))
    return merged


def _extent(array: NDArray[Any]) -> tuple[int, int]:
    """The first address of an array, and the one after its last."""
    start: int = array.__array_interface__["data"][0]
    if array.size == 0:
        return start, start
    steps = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    before, behind = (
        sum(step for step in steps if step < 0),
        sum(step for step in steps if step > 0),
    )
    return start + before, start + behind + array.itemsize


def _read(path: Path) -> dict[str, Any]:
    try:
        with naming(path):
            told = json.loads(path.read_bytes())
        fits = (
            told["format"] == FORMAT
            and isinstance(told["model"], dict)
            and isinstance(told["parameters"], dict)
        )
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise ValueError(
            f"{path} is not what this version writes (format {FORMAT}); begin anew in another "
            "directory"
        )
    return dict(told)


@atexit.register
def _close_all() -> None:
    with ExitStack() as closing:  # all of them, whatever one raises
        for opt in list(_OPEN):
            closing.callback(_close, opt)


def _close(opt: Optimizer) -> None:
    with suppress(BusyError):  # in the middle of something, which the record says
        opt.close()

"""The directory of an optimizer whose parameters and state are files.

The core writes the record of progress around every write of parameters or state. `found` checks
the record when a directory is opened.
"""

from __future__ import annotations

import gc
import json
import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from thalweg import _core
from thalweg._core import Word
from thalweg.disk.names import quoted
from thalweg.disk.writing import appearing, naming, sync_directories, sync_file
from thalweg.groups.rule import STATE_NAMES, structural
from thalweg.mapped.arrays import LOCK, make_array, open_array
from thalweg.mapped.found import Found, fresh, judge
from thalweg.mapped.limits import memory_limit
from thalweg.mapped.memmap import map_of, memmap_below
from thalweg.mapped.owners import OPEN
from thalweg.mapped.progress import FORMAT, read, record
from thalweg.mapped.told import described, read_told, refuse_others

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from thalweg.mapped.owners import Owner

__all__ = ["Asked", "StateDir"]

Asked: TypeAlias = "tuple[str, NDArray[Any], list[tuple[str, str, tuple[int, ...]]]]"
"""A parameter that starts to train: its name, its array, and name, dtype and shape of its state."""


class StateDir:
    """The locked directory of an optimizer: opened and checked here, written by the core."""

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
                f"state_dir {self.path} is not a directory; make the parameters there first: "
                f"params = thalweg.map_params({str(self.path)!r}, params)"
            )
        self._model = {"rule": rule, **structural(options)}
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
        """The progress in the directory, if it belongs to this model and is complete."""
        progress, told = self.path / "progress", self.path / "optimizer.json"
        if not told.exists():
            # A record without `optimizer.json` is left by an interrupted constructor only.
            if progress.exists() and read(progress)[Word.BEGUN : Word.BEGUN + 1].any():
                raise ValueError(
                    f"{told} is missing, but {progress} records training; restore the file, or "
                    "remove the contents of the directory and start again"
                )
            return fresh(torn=False)
        self._saved = read_told(told)
        refuse_others(self.path, self._saved, self._model, leaves)
        if not progress.exists():
            return fresh(torn=True)
        return judge(self.path, self._saved, self._model, leaves)

    def kept(self) -> dict[str, int]:
        """Number of state files of each parameter that has trained."""
        names = {name for name, step in self.found.steps.items() if step}
        return {name: sum(self._file(name, key).exists() for key in STATE_NAMES) for name in names}

    def _file(self, name: str, key: str) -> Path:
        return self.path / "state" / f"{quoted(name)}.{key}.npy"

    def make(self, asked: Iterable[Asked]) -> list[list[NDArray[Any]]]:
        """State arrays of parameters that start or resume training; called by the core."""
        asked = list(asked)
        self.check({name: array for name, array, _ in asked})
        files = [
            (name, (np.dtype(dtype), shape), key, self._file(name, key))
            for name, _, parts in asked
            for key, dtype, shape in parts
        ]
        trained = {name for name, _, _ in asked if self.found.steps.get(name)}
        for name, _, key, path in files:
            if name in trained and not path.exists():
                raise ValueError(
                    f"{path}, the {key} of {name!r}, is missing: the file was removed, or the "
                    "parameter was trained without it; restore the file, or use the same options "
                    "as in that training"
                )
        for name, kind, _, path in files:
            if name not in trained:  # an existing file belongs to another run
                with appearing(path, self._lock.ending) as made:
                    make_array(made, kind)
        opened = {path: open_array(path, f"{key} of {name!r}", k) for name, k, key, path in files}
        return [[opened[self._file(name, key)] for key, _, _ in parts] for name, _, parts in asked]

    def check(self, params: Mapping[str, Any]) -> None:
        """Refuse parameters that do not map files in the directory."""
        for name, array in params.items():
            if (what := self._foreign(array)) is not None:
                raise ValueError(
                    f"parameter {name!r} must map a file in state_dir, shared and writable "
                    f"(np.memmap of mode 'r+'), got {what}; make the parameters there first: "
                    f"params = thalweg.map_params({str(self.path)!r}, params)"
                )

    def _foreign(self, array: Any) -> str | None:
        """Description of an array that maps no file of the directory; None if it maps one."""
        mapped = memmap_below(array)
        if mapped is None or mapped.filename is None:
            return "an array in memory"
        file = Path(mapped.filename).resolve()
        if mapped.mode not in ("r+", "w+"):
            return f"a map of mode {mapped.mode!r}"
        if not file.is_relative_to(self.path):
            return f"a map of {file}"
        return None if file.exists() else f"a map of {file}, which was removed"

    def begin(self, owner: Owner) -> None:
        """Give the counters to the core, and start the record."""
        found, updater = self.found, owner.updater
        names = sorted(updater.leaf_names())
        updater.resume(found.counts, [found.steps.get(name, 0) for name in names])
        self._write_record(owner, found.number, found.flushed, torn=found.torn)
        self.note(owner)
        weakref.finalize(owner, self.let_go).atexit = False
        OPEN.add(owner)

    def _write_record(self, owner: Owner, number: int, flushed: int, *, torn: bool) -> None:
        updater = owner.updater
        steps = dict(zip(updater.leaf_names(), updater.leaf_steps(), strict=True))
        skips = updater.skip_count, updater.consecutive_skips
        counts = (updater.step_count, *skips, updater.weight)
        words = record(self._model, steps, counts, number, flushed, torn=torn)
        path = self.path / "progress"
        _core.replace_file(path, words.tobytes())
        with naming(path):
            self._words = np.memmap(path, "<u8", "r+")
        updater.keep_record(self._words, torn, _is_large(owner))

    def note(self, owner: Owner) -> None:
        """Write the optimizer's current arrays to ``optimizer.json``."""
        saved = self._saved.get("parameters", {})
        states = owner.state
        live = owner.trained() | {name: owner.params[name] for name in states}
        parameters = {name: saved.get(name) for name in sorted(owner.params)}
        parameters |= {name: described(self.path, array) for name, array in live.items()}
        self._tell({"format": FORMAT, "model": self._model, "parameters": parameters})
        self._maps = {}
        for name, array in live.items():
            kept = (a for key, a in states.get(name, {}).items() if key != "step")
            for mapped in map(memmap_below, (array, *kept)):
                if mapped is not None and mapped.filename is not None:
                    whole = map_of(mapped)
                    self._maps[id(whole)] = whole, Path(mapped.filename)

    def note_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write the path of a complete checkpoint to ``optimizer.json``; any thread may call it."""
        self._tell({"checkpoint": str(Path(os.fspath(path)).resolve())})

    def _tell(self, news: dict[str, Any]) -> None:
        with self._mutex:
            told = {"checkpoint": None, **self._saved, **news}
            if told != self._saved and self._process == os.getpid() and not self._closed:
                content = json.dumps(told, indent=1).encode()
                _core.replace_file(self.path / "optimizer.json", content)
                self._saved = told

    def extended(self, owner: Owner) -> None:
        """Start a new record after parameters were added."""
        if self._words is None or self._process != os.getpid():
            return
        number = int(self._words[Word.BEGUN])
        self._words[Word.BEGUN] = number + 1  # torn until the new record replaces this one
        self.note(owner)
        self._write_record(owner, number + 1, Word.NOTHING, torn=self.found.torn)

    def mended(self) -> None:
        """Note that a load has replaced all arrays."""
        self.found.torn = False

    def flush(self) -> None:
        """Flush all arrays to the disk, then the note that they are there.

        The caller guarantees that nothing writes meanwhile.
        """
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
        progress = self.path / "progress"
        with naming(progress):
            words.flush()
            words[Word.FLUSHED] = finished
            words.flush()
        sync_file(progress)

    def let_go(self) -> None:
        """Flush, and release the lock."""
        try:
            self.flush()
        finally:
            self._closed = True
            self._words = None
            self._maps = {}
            self._lock.release()


def _is_large(owner: Owner) -> bool:
    """Whether the arrays of a step would take more than half of the memory."""
    trained = owner.trained()
    size = 2 * sum(array.nbytes for array in trained.values())
    for name, leaf in owner.state.items():
        size += sum(a.nbytes for key, a in leaf.items() if key != "step" and name in trained)
    return size > memory_limit() // 2

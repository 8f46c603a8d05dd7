"""Finished runs on disk: a line of JSON a run, appended when it is finished and never changed.

A line carries a checksum of itself, so that a damaged one is recognised by itself. However
the process ends, at most the line that was being written is lost.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from typing import IO, TYPE_CHECKING, Any

import numpy as np

import thalweg
from thalweg import _core
from thalweg.errors import BusyError
from thalweg_study.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from thalweg_study.task import Record, Task

NAME = "runs.jsonl"
BEGINNING = b'{"kind":"'
LINE = re.compile(rb'(.*),"checksum":"([0-9a-f]{16})"\}', re.DOTALL)
"""The text under the checksum, and the checksum."""

SHOWN = 5
"""Most damaged lines that are named."""


@cache
def environment() -> dict[str, str]:
    """Return the versions that numbers depend on, beside settings.

    Data come with scikit-learn, and a search of a task is SciPy's.
    """
    return {
        "thalweg": thalweg.__version__,
        "NumPy": np.__version__,
        "SciPy": version("scipy"),
        "scikit-learn": version("scikit-learn"),
    }


def settings_of(task: Task) -> dict[str, Any]:
    """Return the fields of a task."""
    return asdict(task)  # type: ignore[call-overload, no-any-return]  # a protocol has no fields


def key_of(task: Task) -> str:
    """Return a text that is equal for equal tasks only."""
    return _key(task.kind, settings_of(task))


@contextmanager
def opened(directory: Path) -> Iterator[Store]:
    """Open the store of a directory for this process alone, and close it at the end.

    Raises
    ------
    StudyError
        If another process has it open, if it cannot be read or written, or if the file that has
        its name is something else, which is then left as it is.
    """
    path = directory / NAME
    lock = _lock(directory)
    try:
        content = _read(path)
        with _failing(path):
            file = path.open("ab")
        try:
            yield Store(path, file, content)
        finally:
            # All runs are written already, or the failure was reported.
            with suppress(OSError):
                file.close()
    finally:
        lock.release()


@dataclass
class _Content:
    """The content of a file."""

    records: dict[str, str] = field(default_factory=dict)
    """As JSON, by key: those of this environment."""

    foreign: int = 0
    damaged: list[int] = field(default_factory=list)
    """Numbers of lines."""

    ours: bool = False
    """Whether any line looks like one of a store, be it damaged."""

    torn: bool = False
    """Whether the last line has no end."""


class Store:
    """The finished runs of a directory; made by `opened`."""

    def __init__(self, path: Path, file: IO[bytes], content: _Content) -> None:
        self.path = path
        self._file = file
        self._torn = content.torn
        self._records = content.records
        self._environment = environment()
        self.notices = tuple(_notices(path, content))
        """Sentences about the file for the user."""

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, task: Task) -> bool:
        return key_of(task) in self._records

    def __getitem__(self, task: Task) -> Record:
        record: Record = json.loads(self._records[key_of(task)])
        return record

    @property
    def kinds(self) -> set[str]:
        """Of the runs."""
        return {key.partition(" ")[0] for key in self._records}

    def add(self, runs: Iterable[tuple[Task, str]]) -> None:
        """Keep tasks with their records, which are JSON, and have them in the file on return."""
        runs = list(runs)
        lines = [_line(task, record, self._environment) for task, record in runs]
        # The rest of a torn line must not damage the next.
        start, self._torn = b"\n" * self._torn, False
        with _failing(self.path):
            self._file.write(start + b"".join(lines))
            self._file.flush()
        self._records.update((key_of(task), record) for task, record in runs)


def _key(kind: str, settings: dict[str, Any]) -> str:
    return f"{kind} {_json(settings, sort_keys=True)}"


def _json(value: Any, **options: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"), **options)


def _line(task: Task, record: str, made_by: dict[str, str]) -> bytes:
    run = {
        "kind": task.kind,
        "settings": settings_of(task),
        "environment": made_by,
        "record": json.loads(record),
    }
    body = _json(run)[:-1].encode()
    return body + f',"checksum":"{_checksum(body)}"}}\n'.encode()


def _checksum(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=8).hexdigest()


def _lock(directory: Path) -> _core.DirectoryLock:
    with _failing(directory):
        try:
            return _core.DirectoryLock(directory)
        except BusyError as error:
            raise StudyError(f"another study is at work: {error}") from error


def _read(path: Path) -> _Content:
    content = _Content()
    with _failing(path):
        if not path.exists():
            return content
        # A device may have no end, and a pipe may wait for a writer.
        if not path.is_file():
            raise _no_store(path)
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                _read_line(number, line, content)
    if not content.ours and (content.damaged or content.torn):
        raise _no_store(path)
    return content


def _read_line(number: int, line: bytes, content: _Content) -> None:
    content.torn = not line.endswith(b"\n")
    line = line.rstrip(b"\r\n")
    if not line:
        return
    found = LINE.fullmatch(line)
    content.ours |= line.startswith(BEGINNING) or found is not None
    if found is None or _checksum(found[1]) != found[2].decode():
        content.damaged.append(number)
        return
    run = json.loads(line)
    if run["environment"] == environment():
        content.records[_key(run["kind"], run["settings"])] = _json(run["record"])
    else:
        content.foreign += 1


def _no_store(path: Path) -> StudyError:
    return StudyError(
        f"{str(path)!r} is no file of runs: move it away, or choose another directory"
    )


def _notices(path: Path, content: _Content) -> Iterator[str]:
    if content.damaged:
        count, first = len(content.damaged), ", ".join(map(str, content.damaged[:SHOWN]))
        more = ", …" if count > SHOWN else ""
        lines = "1 damaged line" if count == 1 else f"{count:,} damaged lines"
        yield (
            f"{str(path)!r} has {lines} (number {first}{more}): runs that were there are made "
            f"again, the other {len(content.records):,} are kept"
        )
    if content.foreign:
        others = ", ".join(f"{name} {number}" for name, number in environment().items())
        yield (
            f"{str(path)!r} has {content.foreign:,} runs of other versions than {others}: they "
            "stay there, and are not used"
        )


@contextmanager
def _failing(path: Path) -> Iterator[None]:
    """Turn a failure of the file system into a `StudyError` that names ``path``."""
    try:
        yield
    except OSError as error:
        raise StudyError(
            f"cannot keep runs in {str(path)!r}: {error.strerror}; those in it are kept"
        ) from error

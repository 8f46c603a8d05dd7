"""Arrays that are files: names that are safe as file names, files made whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg import _core
from thalweg.checkpoint.directory import make
from thalweg.tree import flatten, unflatten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = ["map_params"]

LOCK = ".state.lock"
"""What is locked in the directory, by whoever trains there or makes files."""
LONGEST = 160
"""Characters in one part of a file name; systems allow 255, and something comes behind it."""
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


def quoted(name: str) -> str:
    """A name as a path that is safe on every file system, also where case makes no difference.

    Lower-case letters, digits, ``_``, ``-`` and dots stay; other bytes of UTF-8 are ``%`` and two
    digits, as are a dot at the beginning and the first letter of what Windows reserves. Long names
    are cut into directories that end in ``~``. `unquoted` is the way back.
    """
    text = re.sub(rb"[^a-z0-9_.-]", lambda found: b"%%%02x" % found[0][0], name.encode()).decode()
    if not text:
        return "%"
    if text[0] == "." or RESERVED.match(text):
        text = f"%{ord(text[0]):02x}{text[1:]}"
    return "~/".join(text[at : at + LONGEST] for at in range(0, len(text), LONGEST))


def unquoted(path: str) -> str:
    """The name that became this path."""
    text = path.replace("~/", "")
    if text == "%":
        return ""
    return re.sub(rb"%(..)", lambda found: bytes([int(found[1], 16)]), text.encode()).decode()


def map_params(state_dir: str | os.PathLike[str], like: Any) -> Any:
    """Parameters as memory-mapped files in a directory, made or found there.

    Parameters
    ----------
    state_dir : path
        The directory, made if it is missing; the files are ``<state_dir>/params/<name>.npy``, in
        NumPy's own format, with the names of the leaves, quoted.
    like : tree
        Its leaves are arrays, whose numbers new files begin with, or anything with a ``shape`` and
        a ``dtype``, such as ``jax.ShapeDtypeStruct``: then they begin with zeros, which take no
        disk and no memory until they are written. None is no leaf.

    Returns
    -------
    tree
        Like `like`, with an ``np.memmap`` of mode ``"r+"`` for each leaf.

    Raises
    ------
    ValueError
        If a file that is there has another shape or dtype; nothing is made then.
    TypeError
        If a leaf has no shape and dtype.
    BusyError
        If an optimizer of another process trains what is there.

    Notes
    -----
    Files that are there keep their numbers. Files appear when they are complete: all of the first
    call at once, later ones each by itself, so that an interrupted call can be made again.

    Examples
    --------
    >>> import numpy as np, tempfile, thalweg
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     params = thalweg.map_params(directory, {"w": np.ones(3, np.float32)})
    ...     params["w"][0] = 5.0
    ...     again = thalweg.map_params(directory, {"w": np.zeros(3, np.float32)})
    ...     print(type(again["w"]).__name__, again["w"])
    memmap [5. 1. 1.]
    """
    directory = Path(os.fspath(state_dir)).resolve()
    leaves = flatten(like)
    for name, leaf in leaves.items():
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise TypeError(
                f"leaf {name!r} of like is of type {type(leaf).__name__}; it has to have a shape "
                "and a dtype: an array, or np.empty(shape, dtype)"
            )
    make(directory)
    lock = _core.DirectoryLock(directory, LOCK, join=True)
    try:
        found = {name: _mapped(directory, name, leaf) for name, leaf in leaves.items()}
        absent = {name: leaf for name, leaf in leaves.items() if found[name] is None}
        _make(directory, absent, lock.ending)
        for name, leaf in leaves.items():
            if found[name] is None:
                found[name] = _mapped(directory, name, leaf)
    finally:
        lock.release()
    return unflatten(found, like)


def _mapped(directory: Path, name: str, leaf: Any) -> NDArray[Any] | None:
    path = directory / "params" / f"{quoted(name)}.npy"
    return open_array(path, f"parameter {name!r}", leaf) if path.exists() else None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the system name the file: that of a write or a map does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def appearing(path: Path, ending: str) -> Iterator[Path]:
    """Where a file or directory is made, which then has its name; nothing is left of a failure."""
    made = path.with_name(path.name + ending)
    _remove(made)  # what a call that was killed has left
    try:
        with naming(path):
            yield made
            made.replace(path)
    except BaseException:
        with suppress(OSError):
            _remove(made)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def open_array(path: Path, what: str, like: Any) -> NDArray[Any]:
    """Map a file that is there, if it has the shape and dtype of `like`."""
    with naming(path):
        array = np.lib.format.open_memmap(path, mode="r+")
    if array.shape != tuple(like.shape) or array.dtype != np.dtype(like.dtype):
        raise ValueError(
            f"{path} holds {array.dtype} {array.shape}, {what} is {np.dtype(like.dtype)} "
            f"{tuple(like.shape)}; take another directory, or remove what is there"
        )
    return array


def make_array(path: Path, like: Any, *, copied: bool) -> None:
    """Make a file with the numbers of an array, or zeros that take no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape, dtype = tuple(like.shape), np.dtype(like.dtype)
    with naming(path):
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if copied:
            array[...] = like
        array.flush()


def _make(directory: Path, leaves: dict[str, Any], ending: str) -> None:
    """Make files of parameters: all at once where there are none, else each by itself."""
    final = directory / "params"
    files = {f"{quoted(name)}.npy": leaf for name, leaf in leaves.items()}
    if files and not final.exists():
        with appearing(final, ending) as first:
            for file, leaf in files.items():
                _fill(first / file, leaf)
            sync_directories({(first / file).parent for file in files} | {first})
    else:
        for file, leaf in files.items():
            with appearing(final / file, ending) as made:
                _fill(made, leaf)
        sync_directories({(final / file).parent for file in files})
    sync_directories({directory})


def _fill(path: Path, leaf: Any) -> None:
    make_array(path, leaf, copied=isinstance(leaf, np.ndarray) or hasattr(leaf, "__array__"))


def sync_directories(directories: Iterable[Path]) -> None:
    """Put the names of files on the disk, where that can be done."""
    for directory in directories:
        _core.sync_directory(directory)


def replace_file(path: Path, content: bytes, ending: str) -> None:
    """Write a file as a whole, or leave the one that is there."""
    with appearing(path, ending) as made, made.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_directories({path.parent})


def sync_file(path: Path) -> None:
    """Put what was written to a file on the disk."""
    with naming(path):
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

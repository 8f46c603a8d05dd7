"""Arrays that are files: names that are safe as file names, files made whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.lock import DirectoryLock, is_locked_here
from thalweg.tree import flatten, unflatten

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["map_params"]

LOCK = ".state.lock"
"""What is locked in the directory, by whoever trains there or makes files."""
PARTIAL = ".partial"
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
    directory.mkdir(parents=True, exist_ok=True)
    lock = None if is_locked_here(directory, LOCK) else DirectoryLock(directory, LOCK)
    try:
        found = {name: _mapped(directory, name, leaf) for name, leaf in leaves.items()}
        _make(directory, {name: leaf for name, leaf in leaves.items() if found[name] is None})
        for name, leaf in leaves.items():
            if found[name] is None:
                found[name] = _mapped(directory, name, leaf)
    finally:
        if lock is not None:
            lock.release()
    return unflatten(found, like)


def _mapped(directory: Path, name: str, leaf: Any) -> NDArray[Any] | None:
    path = directory / "params" / f"{quoted(name)}.npy"
    return open_array(path, f"parameter {name!r}", leaf) if path.exists() else None


def open_array(path: Path, what: str, like: Any) -> NDArray[Any]:
    """Map a file that is there, if it has the shape and dtype of `like`."""
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
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if copied:
        array[...] = like
    array.flush()


def _make(directory: Path, leaves: dict[str, Any]) -> None:
    """Make files of parameters: all at once where there are none, else each by itself."""
    final, first = directory / "params", directory / f"params{PARTIAL}"
    at_once = bool(leaves) and not final.exists()
    if at_once and first.exists():
        shutil.rmtree(first)  # by a call that was interrupted
    paths = []
    for name, leaf in leaves.items():
        path = (first if at_once else final) / f"{quoted(name)}.npy"
        paths.append(path)
        made = path if at_once else path.with_name(path.name + PARTIAL)
        make_array(made, leaf, copied=isinstance(leaf, np.ndarray) or hasattr(leaf, "__array__"))
    if at_once:
        sync_directories({path.parent for path in paths} | {first})
        first.replace(final)
    else:
        for path in paths:
            path.with_name(path.name + PARTIAL).replace(path)
        sync_directories({path.parent for path in paths})
    sync_directories({directory})


def sync_directories(directories: Iterable[Path]) -> None:
    """Put the names of files on the disk, where that can be asked for."""
    if os.name != "posix":
        return
    for directory in directories:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file as a whole, or leave the one that is there."""
    made = path.with_name(path.name + PARTIAL)
    with made.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)
    sync_directories({path.parent})


def sync_file(path: Path) -> None:
    """Put what was written to a file on the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

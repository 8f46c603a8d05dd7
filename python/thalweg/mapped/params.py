"""`map_params`: parameters as memory-mapped files in a directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg import _core
from thalweg.disk.names import quoted
from thalweg.disk.writing import appearing, make_directory, sync_directories
from thalweg.mapped.arrays import LOCK, Kind, make_array, open_array
from thalweg.tree import flatten, unflatten

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["map_params"]


def map_params(state_dir: str | os.PathLike[str], like: Any) -> Any:
    """Open parameters as memory-mapped files in a directory, and make the missing ones.

    Parameters
    ----------
    state_dir : path
        The directory, made if it is missing. The files are ``<state_dir>/params/<name>.npy``, in
        NumPy's own format, with the quoted names of the leaves.
    like : tree
        Its leaves are arrays, copied to new files, or objects with a ``shape`` and a ``dtype``,
        such as ``jax.ShapeDtypeStruct``. Files of the latter begin with zeros, which take no disk
        space and no memory until they are written. None is not a leaf.

    Returns
    -------
    tree
        Like `like`, with an ``np.memmap`` of mode ``"r+"`` for each leaf.

    Raises
    ------
    ValueError
        If an existing file has another shape or dtype. Nothing is made then.
    TypeError
        If a leaf has no shape and dtype.
    BusyError
        If another process uses the directory.

    Notes
    -----
    Existing files keep their content. New files appear only when complete: those of the first call
    all at once, later ones one at a time. So an interrupted call can be repeated.

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
                f"leaf {name!r} of like must have a shape and a dtype (an array, or "
                f"np.empty(shape, dtype)), got {type(leaf).__name__}"
            )
    make_directory(directory)
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
    return open_array(path, f"parameter {name!r}", _kind(leaf)) if path.exists() else None


def _kind(leaf: Any) -> Kind:
    return np.dtype(leaf.dtype), tuple(leaf.shape)


def _make(directory: Path, leaves: dict[str, Any], ending: str) -> None:
    """Make files of parameters: all at once if there are none yet, otherwise one at a time."""
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
    has_values = isinstance(leaf, np.ndarray) or hasattr(leaf, "__array__")
    make_array(path, _kind(leaf), leaf if has_values else None)

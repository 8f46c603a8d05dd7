"""Checkpoint files of an optimizer: saving, loading, reading without one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thalweg import _core
from thalweg.checkpoint.encoding import Encoder, decode
from thalweg.state import LoadReport, load_state_dict, together
from thalweg.tree import flatten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from thalweg.base import Optimizer

__all__ = ["Checkpoint", "read_checkpoint"]

Path = str | os.PathLike[str]

OPTIMIZER = "thalweg.optimizer"
EXTRA = "thalweg.extra"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds, as `read_checkpoint` gives it."""

    params: dict[str, NDArray[Any]] | None
    """Parameters by name; None if they were left out."""
    state_dict: dict[str, Any]
    """As `Optimizer.state_dict` gives it."""
    extra: Any
    """What the user saved along with it."""


class Snapshot:
    """What is to be written: texts, and arrays that are live or copies."""

    def __init__(self, extra: Any) -> None:
        self._encoder = Encoder()
        self.metadata: dict[str, str] = {}
        if extra is not None:
            self.metadata[EXTRA] = self._encoder.text(extra, "extra", "extra")

    def take(self, opt: Optimizer, saved: dict[str, Any], *, params: bool) -> Snapshot:
        """Add an optimizer, whose state dict is given."""
        tree = {**saved, "params": _trained(opt, saved) if params else None}
        self.metadata[OPTIMIZER] = self._encoder.text(tree, "the state dict")
        return self

    def copy(self) -> Snapshot:
        """The same, with arrays of its own."""
        tensors = self._encoder.tensors
        for name, (kind, array) in tensors.items():
            tensors[name] = kind, np.array(array)
        return self

    def write(self, path: Path) -> None:
        """Write it to a file; see `Optimizer.save`."""
        tensors = [(name, *tensor) for name, tensor in self._encoder.tensors.items()]
        _core.write_checkpoint(os.fspath(path), self.metadata, tensors)


def save(opt: Optimizer, path: Path, extra: Any, *, params: bool) -> None:
    """See `Optimizer.save`."""
    taken = Snapshot(extra)
    together(opt, lambda saved: taken.take(opt, saved, params=params).write(path), current=True)


def snapshot(opt: Optimizer, extra: Any, *, params: bool) -> Snapshot:
    """What `save` would write, with copies of the arrays."""
    taken = Snapshot(extra)
    together(opt, lambda saved: taken.take(opt, saved, params=params).copy(), current=True)
    return taken


def _trained(opt: Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """The parameters that train or have trained; not those that were replaced once frozen."""
    held = flatten(opt._tree)
    return {n: opt._params[n] for n in saved["state"] if held.get(n) is opt._params[n]}


def load(
    opt: Optimizer,
    path: Path,
    *,
    hyperparameters: Literal["saved", "current"],
    strict: bool,
    params: bool,
) -> LoadReport:
    """See `Optimizer.load`."""
    file = _core.Checkpoint(os.fspath(path))
    saved, values, extra = _parsed(file, path)
    if params and values is None:
        raise ValueError(
            f"{_shown(path)} holds no parameters (it was saved with params=False); load it with "
            "params=False, which leaves the parameters as they are"
        )
    return load_state_dict(
        opt,
        saved,
        hyperparameters=hyperparameters,
        strict=strict,
        params=values if params else None,
        extra=extra,
        what=_shown(path),
        stacklevel=4,
    )


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint file without an optimizer.

    Parameters
    ----------
    path : str or path
        A file that `Optimizer.save` wrote.

    Returns
    -------
    Checkpoint
        ``params``, a dict of names and arrays, or None if they were left out; ``state_dict``, as
        `Optimizer.state_dict` gives it; ``extra``.

    Raises
    ------
    ValueError
        If the file is no checkpoint of thalweg, or damaged.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import numpy as np, os, tempfile, thalweg
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> thalweg.AdamW({"w": np.ones(2)}).save(path, extra={"epoch": 3})
    >>> checkpoint = thalweg.read_checkpoint(path)
    >>> checkpoint.params["w"], checkpoint.extra, checkpoint.state_dict["rule"]
    (array([1., 1.]), {'epoch': 3}, 'AdamW')
    """
    saved, params, extra = _parsed(_core.Checkpoint(os.fspath(path)), path)
    return Checkpoint(_read(params), _read(saved), extra)


def _read(tree: Any) -> Any:
    """The same dicts with arrays that are read."""
    if isinstance(tree, dict):
        return {key: _read(value) for key, value in tree.items()}
    return tree.read() if isinstance(tree, _core.Stored) else tree


def _parsed(
    file: _core.Checkpoint, path: Path
) -> tuple[dict[str, Any], Mapping[str, Any] | None, Any]:
    """State dict and parameters, whose arrays are not read yet, and extra."""
    metadata, tensors = file.metadata, file.tensors
    if OPTIMIZER not in metadata:
        raise ValueError(f"{_shown(path)} holds no optimizer; it was not written by opt.save")
    # Each is taken once: what is read is never larger than the file.
    saved = decode(metadata[OPTIMIZER], tensors.pop)
    if not isinstance(saved, dict) or not isinstance(saved.get("params"), dict | None):
        raise ValueError(f"{_shown(path)} holds no optimizer that this version knows")  # noqa: TRY004 - of a file
    params = saved.pop("params", None)
    extra = decode(metadata.get(EXTRA, "null"), lambda name: tensors.pop(name).read())
    return saved, params, extra


def _shown(path: Path) -> str:
    return repr(os.fspath(path))

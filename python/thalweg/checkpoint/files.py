"""Checkpoint files of an optimizer: saving, loading, and reading without an optimizer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from thalweg import _core
from thalweg.checkpoint.encoding import Bits, Encoder, decode
from thalweg.compact.decoding import BITS, is_bfloat16
from thalweg.state.loading import Origin, load_state_dict
from thalweg.state.spread import Spread
from thalweg.state.state_dict import together
from thalweg.tree import flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from thalweg.mapped.state_dir import StateDir
    from thalweg.state.held import Held
    from thalweg.state.report import LoadReport

__all__ = ["Checkpoint", "read_checkpoint"]

T = TypeVar("T")
Path = str | os.PathLike[str]

OPTIMIZER = "thalweg.optimizer"
EXTRA = "thalweg.extra"


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint file, returned by `read_checkpoint`."""

    params: dict[str, NDArray[Any]] | None
    """Parameters by name; None if they were left out."""
    state_dict: dict[str, Any]
    """The result of `Optimizer.state_dict`."""
    extra: Any
    """The argument `extra` of the save."""


class Snapshot:
    """Content of a new checkpoint: texts, and arrays that are live or copies."""

    def __init__(self, extra: Any) -> None:
        self._encoder = Encoder()
        self.step_count = 0
        self._directory: StateDir | None = None
        self.metadata: dict[str, str] = {}
        if extra is not None:
            self.metadata[EXTRA] = self._encoder.text(extra, "extra", "extra")

    def take(self, held: Held, saved: dict[str, Any], *, params: bool) -> Snapshot:
        """Add an optimizer with its state dict."""
        states = {name: _marked(leaf) for name, leaf in saved["state"].items()}
        params_saved = _marked(_trained(held, saved)) if params else None
        tree = {**saved, "state": states, "params": params_saved}
        self.metadata[OPTIMIZER] = self._encoder.text(tree, "the state dict")
        self.step_count = saved["step_count"]
        self._directory = held.files if params else None
        return self

    def copy(self) -> Snapshot:
        """Replace the arrays with copies; returns `self`."""
        tensors = self._encoder.tensors
        for name, (kind, array) in tensors.items():
            tensors[name] = kind, np.array(array)
        return self

    def write(self, path: Path) -> None:
        """Write the snapshot to a file; see `Optimizer.save`."""
        tensors = [(name, *tensor) for name, tensor in self._encoder.tensors.items()]
        _core.write_checkpoint(os.fspath(path), self.metadata, tensors)
        if self._directory is not None:
            self._directory.note_checkpoint(path)


def save(held: Held, path: Path, extra: Any, *, params: bool) -> None:
    """See `Optimizer.save`."""
    taken(held, extra, lambda snapshot: snapshot.write(path), params=params)


def taken(held: Held, extra: Any, use: Callable[[Snapshot], T], *, params: bool) -> T:
    """The result of `use` on a snapshot of live arrays, which stay unchanged until it returns."""
    snapshot = Snapshot(extra)

    def work(saved: dict[str, Any]) -> T:
        return use(snapshot.take(held, saved, params=params))

    made: T = together(held, work, current=True)
    return made


def _marked(leaf: dict[str, Any]) -> dict[str, Any]:
    """Arrays by name, with those of bfloat16 numbers marked as such."""
    return {key: _bits(value) for key, value in leaf.items()}


def _bits(value: Any) -> Any:
    if isinstance(value, Spread) and value.dtype == BITS:
        return Bits(value)
    if isinstance(value, np.ndarray) and (value.dtype == BITS or is_bfloat16(value.dtype)):
        return Bits(value.view(BITS))
    return value


def _trained(held: Held, saved: dict[str, Any]) -> dict[str, Any]:
    """The parameters that train or have trained, without those replaced after freezing."""
    live = flatten(held.tree)
    return {n: held.params[n] for n in saved["state"] if live.get(n) is held.params[n]}


def optimizer_of(metadata: Mapping[str, str], tensor: Callable[[str], Any], path: str) -> Any:
    """The state dict and parameters in a file. `tensor(name)` gives the value of a tensor."""
    if OPTIMIZER not in metadata:
        raise ValueError(f"{path!r} contains no optimizer; it was not written by opt.save")
    return decode(metadata[OPTIMIZER], tensor)


def unknown(path: str) -> str:
    """The message for a file whose optimizer has another form."""
    return f"{path!r} contains an optimizer that this version of thalweg cannot read"


class Opened:
    """An open checkpoint file that passed all checks.

    Raises
    ------
    ValueError
        If the file is damaged or not a checkpoint.
    OSError
        If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = os.fspath(path)
        self._file = _core.Checkpoint(self.path)

    def parsed(self) -> tuple[dict[str, Any], Mapping[str, Any] | None, Any]:
        """State dict and parameters with unread arrays, and `extra`."""
        metadata, tensors = self._file.metadata, self._file.tensors
        # Each tensor is taken once, so the result is never larger than the file.
        saved = optimizer_of(metadata, tensors.pop, self.path)
        if not isinstance(saved, dict) or not isinstance(saved.get("params"), dict | None):
            raise ValueError(unknown(self.path))  # noqa: TRY004 - of a file
        params = saved.pop("params", None)
        extra = decode(metadata.get(EXTRA, "null"), lambda name: tensors.pop(name).read())
        return saved, params, extra


def parsed(file: Opened, *, params: bool) -> tuple[dict[str, Any], Mapping[str, Any] | None, Any]:
    """State dict, parameters if they are to be loaded, and `extra` of a file."""
    saved, values, extra = file.parsed()
    if params and values is None:
        raise ValueError(
            f"{file.path!r} contains no parameters (it was saved with params=False); load it with "
            "params=False, which keeps the present parameters"
        )
    return saved, values if params else None, extra


def load(
    held: Held,
    file: Opened,
    *,
    hyperparameters: Literal["saved", "current"],
    strict: bool,
    params: bool,
    convert: bool = False,
) -> LoadReport:
    """See `Optimizer.load`."""
    saved, values, extra = parsed(file, params=params)
    report = load_state_dict(
        held,
        saved,
        hyperparameters=hyperparameters,
        strict=strict,
        convert=convert,
        origin=Origin(repr(file.path), values, extra, stacklevel=4),
    )
    if params and not (report.missing or report.unexpected or report.mismatched):
        held.loaded(file.path)
    return report


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint file without an optimizer.

    Parameters
    ----------
    path : str or path
        A file written by `Optimizer.save`.

    Returns
    -------
    Checkpoint
        Attributes ``params``, a dict of names and arrays, or None if they were not saved;
        ``state_dict``, as returned by `Optimizer.state_dict`; and ``extra``.

    Raises
    ------
    ValueError
        If the file is damaged or not a checkpoint of thalweg.
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
    saved, params, extra = Opened(path).parsed()
    return Checkpoint(_read(params), _read(saved), extra)


def _read(tree: Any) -> Any:
    """The same tree with its arrays read."""
    if isinstance(tree, dict):
        return {key: _read(value) for key, value in tree.items()}
    return tree.read() if isinstance(tree, _core.Stored) else tree

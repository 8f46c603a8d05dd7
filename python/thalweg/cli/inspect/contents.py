"""The content of a checkpoint file. An array is read only when its norm is needed."""

from __future__ import annotations

import json
import math
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from thalweg import _core
from thalweg.checkpoint.encoding import TENSORS, decode, malformed, read_dtype
from thalweg.checkpoint.files import EXTRA, optimizer_of, unknown
from thalweg.state.form import check_form

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

DTYPES = {kind: np.dtype(f"<{name}" if name != "b1" else "?") for name, kind in TENSORS.items()}
PIECE = 1 << 17
"""Elements read at a time."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file: its type, shape and position."""

    name: str
    kind: str
    """Safetensors' name of the type."""
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    def read(self) -> Any:
        """Refuse the conversion to another dtype; `decode` calls this."""
        raise ValueError(malformed("an array of another dtype"))


@dataclass(frozen=True)
class Contents:
    """An open file."""

    path: str
    size: int
    format: str
    verified: bool
    saved: dict[str, Any]
    """The state dict, with tensors for arrays."""
    params: dict[str, Tensor] | None
    extra: Any
    """The user's tree, with tensors for arrays."""
    cast: Mapping[str, np.dtype[Any]]
    """Dtypes of the arrays of `extra` that differ from those of their tensors, by name."""
    tensors: dict[str, Tensor]
    file: BinaryIO

    def norm(self, tensor: Tensor) -> float | None:
        """Euclidean norm, or None if NumPy has no dtype for the tensor.

        Raises
        ------
        ValueError
            If the file has become shorter.
        OSError
            If it cannot be read.
        """
        dtype = DTYPES.get(tensor.kind)
        if dtype is None:
            return None
        norms = []
        elements = tensor.nbytes // dtype.itemsize
        self.file.seek(tensor.offset)
        for start in range(0, elements, PIECE):
            count = min(PIECE, elements - start)
            piece = self.file.read(count * dtype.itemsize)
            if len(piece) < count * dtype.itemsize:
                raise ValueError(f"{self.path!r} was changed while it was read")
            norms.append(_norm(np.frombuffer(piece, dtype)))
        # hypot returns infinity for infinity and NaN together.
        return math.nan if any(map(math.isnan, norms)) else math.hypot(*norms)


def _norm(piece: NDArray[Any]) -> float:
    with np.errstate(all="ignore"):
        numbers = piece.astype(np.float64)
        square = float(np.square(numbers).sum())
        if 1e-200 < square < 1e300:
            return math.sqrt(square)
        largest = float(np.max(np.abs(numbers)))
        if largest == 0.0 or not math.isfinite(largest):
            return largest
        # Squares would overflow or underflow.
        numbers /= largest
        return largest * math.sqrt(float(np.square(numbers).sum()))


@contextmanager
def opened(path: Path, *, verify: bool) -> Iterator[Contents]:
    """Open a checkpoint file and check its header; with `verify`, check all of it.

    Raises
    ------
    ValueError
        If the file is damaged or not a checkpoint of an optimizer.
    OSError
        If it cannot be read.
    """
    name = os.fspath(path)
    before = _identity(path.stat()) if path.exists() else None
    if verify:
        _core.Checkpoint(name)
    metadata, listed = _core.checkpoint_header(name)
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if _identity(found) != before:
            raise ValueError(
                f"{name!r} was replaced or changed while it was read; run the command again"
            )
        tensors = {row[0]: Tensor(*row) for row in listed}
        saved, params = _optimizer(metadata, tensors, name)
        extra, cast = _extra(metadata, tensors)
        yield Contents(
            path=name,
            size=found.st_size,
            format=metadata["thalweg.format"],
            verified=verify,
            saved=saved,
            params=params,
            extra=extra,
            cast=cast,
            tensors=tensors,
            file=file,
        )


def _identity(found: os.stat_result) -> tuple[int, ...]:
    """A value that differs between files, and after a write to the file."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _optimizer(
    metadata: dict[str, str], tensors: dict[str, Tensor], path: str
) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    saved = optimizer_of(metadata, tensors.__getitem__, path)
    check_form(saved)
    params = saved.pop("params", None)
    leaves = [
        leaf for part in (saved, *saved["attached"].values()) for leaf in part["state"].values()
    ]
    if not (
        (params is None or _are_tensors(params))
        and all(
            type(leaf.get("step")) is int and _are_tensors({**leaf, "step": None}, "step")
            for leaf in leaves
        )
    ):
        raise ValueError(unknown(path))
    return saved, params


def _are_tensors(value: Any, *but: str) -> bool:
    return isinstance(value, dict) and all(
        isinstance(tensor, Tensor) for key, tensor in value.items() if key not in but
    )


def _extra(
    metadata: dict[str, str], tensors: dict[str, Tensor]
) -> tuple[Any, dict[str, np.dtype[Any]]]:
    """The user's tree, and the dtypes of its arrays that differ from those of their tensors."""
    cast = {}

    def plain(found: dict[str, Any]) -> dict[str, Any]:
        if found.keys() != {"$tensor", "as"}:
            return found
        cast[str(found["$tensor"])] = read_dtype(found["as"])
        return {"$tensor": found["$tensor"]}

    try:
        text = json.dumps(json.loads(metadata.get(EXTRA, "null"), object_hook=plain))
    except (RecursionError, TypeError) as error:
        raise ValueError(malformed(repr(error))) from error
    return decode(text, tensors.__getitem__), cast

"""Trees of plain values and arrays as JSON text and tensors. The round trip is exact.

Values of JSON are written unchanged. All others are objects whose first key begins with ``$``::

    {"$tensor": name}                the tensor of that name
    {"$tensor": name, "as": dtype}   the same, for an array of another dtype than the tensor
    {"$scalar": [dtype, hex]}        the bytes of a NumPy scalar
    {"$float": "nan"}                also "inf" and "-inf"
    {"$int": hex}                    an integer of more than 64 bits
    {"$tuple": [...]}
    {"$dict": [[key, value], ...]}   a dict with integer keys or keys that begin with $
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg import _core
from thalweg.state.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["TENSORS", "Bits", "Encoder", "decode", "malformed", "read_dtype"]

DEPTH = 100
TENSORS = {dtype.str[1:]: kind for dtype, kind in _core.checkpoint_dtypes()}
"""Safetensors' names of NumPy's dtypes; keys have no byte order."""
SCALARS = {*TENSORS, "c8", "c16"}
ACCEPTED = (
    "None, a bool, an int, a float, a string, a NumPy scalar, an array of numbers, or a list, "
    "tuple or dict of these whose keys are strings or integers"
)
DICTS = (dict, OrderedDict, defaultdict)
"""Types that are loaded as a dict, which is equal to them."""


@dataclass(frozen=True)
class Bits:
    """An array of uint16 whose elements are the bits of bfloat16 numbers; loaded as uint16."""

    array: NDArray[Any] | Spread


class Encoder:
    """Collects the tensors of trees while it encodes them."""

    def __init__(self) -> None:
        self.tensors: dict[str, tuple[str, NDArray[Any] | Spread]] = {}
        """Safetensors' name of the dtype, and the array, by name of the tensor."""

    def text(self, tree: Any, what: str, *path: str) -> str:
        """The JSON text of a tree. Messages call it `what`; names of tensors begin with `path`.

        Raises
        ------
        TypeError
            For a value that would not be loaded as itself; the message says where it is.
        ValueError
            For a tree that is nested too deeply.
        """
        encoded = self._encode(tree, _Place((what, path), len(path)))
        return json.dumps(encoded, allow_nan=False, separators=(",", ":"))

    def _encode(self, value: Any, place: _Place) -> Any:
        kind = type(value)
        if kind in DICTS or kind in (list, tuple):
            place.check_depth()
            if kind in DICTS:
                return self._dict(value, place)
            items = [
                item if _is_json(item) else self._encode(item, place.at(i))
                for i, item in enumerate(value)
            ]
            return {"$tuple": items} if kind is tuple else items
        if isinstance(value, np.ndarray | Spread):
            return self._tensor(value, place)
        if isinstance(value, Bits):
            return self._tensor(value.array, place, "BF16")
        return _leaf(value, place)

    def _dict(self, value: dict[Any, Any], place: _Place) -> Any:
        items = [
            (_key(key, place), item if _is_json(item) else self._encode(item, place.at(key)))
            for key, item in value.items()
        ]
        if all(type(key) is str and not key.startswith("$") for key, _ in items):
            return dict(items)
        return {"$dict": items}

    def _tensor(
        self, array: NDArray[Any] | Spread, place: _Place, kind: str | None = None
    ) -> dict[str, str]:
        if isinstance(array, Spread):
            return {"$tensor": self._named(array, place, kind or TENSORS[array.dtype.str[1:]])}
        dtype = array.dtype
        if type(array) not in (np.ndarray, np.memmap) or dtype.str[1:] not in SCALARS:
            raise TypeError(
                f"{place.what()} must be a plain ndarray of booleans, integers, floats of at most "
                f"64 bits or complex numbers of at most 128 bits, got {type(array).__name__} of "
                f"dtype {dtype}"
            )
        plain = np.asarray(array).astype(dtype.newbyteorder("="), copy=False)
        if dtype.kind == "c":
            # An extra axis holds real and imaginary part.
            parts = plain.ravel().view(f"=f{dtype.itemsize // 2}")
            plain = parts.reshape(*plain.shape, 2)
        unique = self._named(plain, place, kind or TENSORS[plain.dtype.str[1:]])
        same = plain.dtype == dtype and plain.dtype.str == dtype.str
        return {"$tensor": unique} if same else {"$tensor": unique, "as": dtype.str}

    def _named(self, array: NDArray[Any] | Spread, place: _Place, kind: str) -> str:
        """Add a tensor; returns its name."""
        name = place.path()
        unique, number = name, 2
        while unique in self.tensors:
            unique, number = f"{name}~{number}", number + 1
        self.tensors[unique] = (kind, array)
        return unique


class _Place:
    """The position of a value in a tree. Its text is made on request only."""

    __slots__ = ("depth", "key", "root", "up")

    def __init__(
        self,
        root: tuple[str, tuple[str, ...]],
        depth: int,
        up: _Place | None = None,
        key: Any = None,
    ) -> None:
        self.root, self.depth, self.up, self.key = root, depth, up, key

    def at(self, key: Any) -> _Place:
        """The place of an item."""
        return _Place(self.root, self.depth + 1, self, key)

    def _keys(self) -> list[Any]:
        keys, place = [], self
        while place.up is not None:
            keys.append(place.key)
            place = place.up
        return keys[::-1]

    def what(self) -> str:
        """The position in messages."""
        return self.root[0] + "".join(f"[{_shown(key)!r}]" for key in self._keys())

    def path(self) -> str:
        """The name of a tensor at the position."""
        return "/".join((*self.root[1], *map(str, self._keys())))

    def check_depth(self) -> None:
        if self.depth > DEPTH:
            raise ValueError(
                f"{self.what()[:41]}... is nested more than {DEPTH} levels deep; perhaps it "
                "contains itself"
            )


def _shown(key: Any) -> Any:
    """A key as a Python value."""
    return key.item() if isinstance(key, np.generic) else key


def _key(key: Any, place: _Place) -> Any:
    """A key of a dict, encoded."""
    if type(key) is str:
        return key
    if isinstance(key, np.str_ | np.integer) or type(key) is int:
        return _leaf(_shown(key), place)
    raise TypeError(f"a key of {place.what()} must be a string or an integer, got {key!r}")


def _is_json(value: Any) -> bool:
    """Whether JSON holds the value unchanged."""
    kind = type(value)
    return (
        kind is str
        or kind is bool
        or value is None
        or (kind is float and math.isfinite(value))
        or (kind is int and value.bit_length() <= 63)
    )


def _leaf(value: Any, place: _Place) -> Any:
    if _is_json(value):
        return value
    kind = type(value)
    if kind is int:
        return {"$int": hex(value)}
    if kind is float:
        return {"$float": str(value)}
    if kind is np.str_:
        return str(value)
    if (
        isinstance(value, np.generic)
        and value.dtype.str[1:] in SCALARS
        and kind is value.dtype.type
    ):
        return {"$scalar": [value.dtype.str, value.tobytes().hex()]}
    name = kind.__name__
    hint = "; convert it (dict(x))" if isinstance(value, Mapping) else ""
    raise TypeError(f"{place.what()} must be {ACCEPTED}, got {name}{hint}")


def malformed(what: str) -> str:
    """The message for a text that `Encoder` cannot have made."""
    return f"JSON in the checkpoint is malformed: {what}"


def decode(text: str, tensor: Callable[[str], Any]) -> Any:
    """The tree of a JSON text. `tensor(name)` gives the value of a tensor, and is called once each.

    Raises
    ------
    ValueError
        For a text that `Encoder` cannot have made.
    """
    try:
        tree = json.loads(text, parse_constant=_constant, parse_float=_finite)
        return _decode(tree, tensor, DEPTH + 1)
    except (KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(malformed(repr(error))) from error


def _constant(name: str) -> Any:
    raise ValueError(malformed(name))


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(malformed(f"{text[:40]} is out of range"))
    return value


def _decode(value: Any, tensor: Callable[[str], Any], room: int) -> Any:
    """Decode with at most `room` levels of containers, so that later recursion is safe."""
    if not isinstance(value, list | dict):
        return value
    if room == 0:
        raise ValueError("JSON in the checkpoint is nested too deeply")

    def inner(item: Any) -> Any:
        return _decode(item, tensor, room - 1) if isinstance(item, list | dict) else item

    if isinstance(value, list):
        return [inner(item) for item in value]
    mark = next(iter(value), "")
    if not mark.startswith("$"):
        return {key: inner(item) for key, item in value.items()}
    if mark == "$tensor" and value.keys() <= {"$tensor", "as"}:
        return _array(tensor(value[mark]), value.get("as"))
    if mark not in MARKS or len(value) > 1:
        raise ValueError(malformed(repr(mark[:40])))
    return MARKS[mark](value[mark], inner)


def _dict(content: Any, inner: Callable[[Any], Any]) -> dict[Any, Any]:
    pairs = [(inner(key), inner(item)) for key, item in _list(content)]
    for key, _ in pairs:
        if type(key) not in (str, int):
            raise ValueError(malformed(repr(key)))
    return dict(pairs)


def _float(content: Any, _inner: Callable[[Any], Any]) -> float:
    if content not in ("nan", "inf", "-inf"):
        raise ValueError(malformed(repr(content)))
    return float(content)


def _scalar(content: Any, _inner: Callable[[Any], Any]) -> Any:
    dtype, data = content
    return np.frombuffer(bytes.fromhex(data), read_dtype(dtype), 1)[0]


MARKS: dict[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "$tuple": lambda content, inner: tuple(inner(item) for item in _list(content)),
    "$dict": _dict,
    "$float": _float,
    "$int": lambda content, _inner: int(content, 16),
    "$scalar": _scalar,
}


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(malformed(repr(value)))  # noqa: TRY004 - the content of a file is wrong
    return value


def read_dtype(name: Any) -> np.dtype[Any]:
    """The dtype with a name written by `Encoder`.

    Raises
    ------
    ValueError
        For another name.
    """
    if not isinstance(name, str) or name[:1] not in ("<", ">", "|") or name[1:] not in SCALARS:
        raise ValueError(malformed(repr(name)))
    return np.dtype(name)


def _array(stored: Any, dtype: str | None) -> Any:
    if dtype is None:
        return stored
    array = stored if isinstance(stored, np.ndarray) else stored.read()
    wanted = read_dtype(dtype)
    if wanted.kind != "c":
        return array.astype(wanted)
    if array.shape[-1:] != (2,):
        raise ValueError(malformed(repr(dtype)))
    return array.view(f"=c{2 * array.itemsize}")[..., 0].astype(wanted)

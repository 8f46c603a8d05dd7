"""Calls of `thalweg.functional` with narrow arrays, and the oracle that judges them.

The expected bits are those of the definition: decode by `thalweg.compact`, apply the rule of
`thalweg.reference`, encode by `thalweg.compact` with the step as dither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from formulas import AVERAGES_OF_SQUARES, NEVER_NEGATIVE
from fuzz_draw import HALVES, Arena, Draw, good, odd, readable, writable
from fuzz_update import Update, judged
from thalweg import compact

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

BASE = "_base"
OTHER_TYPES = ("u1", "u2", "i1", "i2", ">i2", "f4", "f8", *HALVES)
ODD: tuple[Callable[[Draw, Arena, np.ndarray], Any], ...] = (
    *[odd] * 5,
    *[lambda draw, _, array: array.astype(draw.choice(OTHER_TYPES))] * 2,
    lambda draw, _, array: array.view(draw.choice(same_size(array))),
    lambda draw, arena, array: arena.array(np.resize(array, array.size + draw.choice((1, 2, 64)))),
    lambda _, arena, array: arena.array(array.ravel()[:-1]),
    lambda draw, arena, array: arena.array(array, apart=draw.chance(0.5)),
    lambda *_: None,
)


def same_size(array: np.ndarray) -> list[np.dtype[Any]]:
    return [dtype for dtype in map(np.dtype, OTHER_TYPES) if dtype.itemsize == array.itemsize]


def parts(name: str, x: np.ndarray, char: str, step: int | None) -> dict[str, np.ndarray]:
    """The arrays that keep numbers in a dtype with this character."""
    match char, name:
        case "H", _:
            return {name: compact.encode_bfloat16(x, step)}
        case "B", _:
            return dict(zip((name, f"{name}_base"), compact.encode_e5m3(x, step), strict=True))
        case "e", "p":
            return dict(zip(("p", "low"), compact.split_float16(x), strict=True))
        case "E", "p":
            live, low = compact.split_bfloat16(x)
            return {"p": live.view(HALVES[-1]), "low": low}
    return {name: x}


def numbers(name: str, row: dict[str, Any]) -> np.ndarray:
    """The numbers that an array of a parameter keeps."""
    array = np.array(row[name], subok=False)
    match array.dtype.char, name:
        case "H", _:
            return compact.decode_bfloat16(array)
        case "B", _:
            return compact.decode_e5m3(array, row[f"{name}_base"])
        case "e", "p":
            return compact.join_float16(array, row["low"])
        case "E", "p":
            return compact.join_bfloat16(array, row["low"])
    return array


def shape(draw: Draw) -> tuple[int, ...]:
    """Sometimes of whole blocks, or of more elements than the arena has bytes."""
    return draw.choice((draw.shape(), draw.shape(), (draw.choice((63, 64, 65, 200, 5000)),)))


def patterns(draw: Draw, like: np.ndarray) -> np.ndarray:
    """Random bits."""
    rng = np.random.default_rng(draw.getrandbits(32))
    return rng.integers(0, 256, like.nbytes, np.uint8).view(like.dtype).reshape(like.shape)


def state_types(name: str, row: Container[str]) -> str:
    """Characters of the dtypes of state that is computed in float32: H is uint16, B is uint8."""
    if name in AVERAGES_OF_SQUARES and "grad_avg" not in row:
        return "fHB"
    return "fH" if name in ("exp_avg", "momentum_buffer") else "f"


def form_of(name: str, row: dict[str, Any]) -> tuple[str, tuple[int, ...]] | None:
    """Dtypes and shape of an array that is written; None if there must be none."""
    p = row["p"]
    if name == "p":
        return p.dtype.char, p.shape
    if name == "low":
        return ("h", p.shape) if p.dtype.char in "eE" else None
    if name.endswith(BASE):
        return ("B", (-(-p.size // 64),)) if good(row[name.removesuffix(BASE)], types="B") else None
    return "d" if p.dtype == np.float64 else state_types(name, row), p.shape


class NarrowUpdate(Update):
    """A call of `thalweg.functional` with narrow parameters, state and gradients."""

    @classmethod
    def names(cls, states: Sequence[str]) -> tuple[str, ...]:
        bases = [f"{name}{BASE}" for name in states if name in AVERAGES_OF_SQUARES]
        return ("p", "g", *states, *bases, "low")

    @classmethod
    def row(cls, draw: Draw, states: Sequence[str]) -> dict[str, np.ndarray]:
        size, live = shape(draw), draw.choice((*[np.dtype("f4"), *HALVES] * 2, np.dtype("f8")))
        row = {}
        for name in ("p", *(state for state in states if state != "history")):
            whole = name == "p" or live == np.float64
            char = live.char if whole else draw.choice(state_types(name, states))
            x = draw.values(size, np.dtype("f8" if char == "d" else "f4"))
            row |= parts(name, abs(x) if name in NEVER_NEGATIVE else x, char, 1)
        row = {name: patterns(draw, a) if draw.chance(0.05) else a for name, a in row.items()}
        row |= cls.history(draw, states)
        return {**row, "g": draw.values(size, draw.gradient_dtype())}

    @classmethod
    def placed(cls, draw: Draw, arena: Arena, array: Any, *, dense: bool = False) -> Any:
        if array is None:
            return None
        dense = dense or (array.dtype == np.uint8 and draw.chance(0.97))
        return arena.array(array, apart=draw.chance(0.98), dense=dense)

    @classmethod
    def replaced(cls, draw: Draw, arena: Arena, array: Any) -> Any:
        if array is None:
            return np.zeros(draw.shape(), draw.choice(("i2", "u1")))
        return draw.choice(ODD)(draw, arena, array)

    def fits(self, name: str, row: dict[str, Any]) -> bool:
        p, array = row["p"], row[name]
        if not good(p, types="fdeE"):
            return False
        if name == "g":
            return readable(array) and array.shape == p.shape
        if name == "history":
            return writable(array, types="d") and array.shape == (3,) and array.flags.c_contiguous
        form = form_of(name, row)
        if form is None:
            return array is None
        fits = writable(array, types=form[0]) and array.shape == form[1]
        return fits and (array.dtype != np.uint8 or array.flags.c_contiguous)

    def expected(self, row: dict[str, Any]) -> dict[str, np.ndarray]:
        whole = {
            name: numbers(name, row) for name in row if name != "low" and not name.endswith(BASE)
        }
        made = {}
        for name, x in self.applied(whole).items():
            made |= parts(name, x, row[name].dtype.char, self.step)
        return made


def narrow(draw: Draw, arena: Arena) -> str:
    """One call of `thalweg.functional` with narrow arrays."""
    return f"narrow {judged(NarrowUpdate.drawn(draw, arena), arena)}"

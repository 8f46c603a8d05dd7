"""Calls of `thalweg.functional` with gradients of a few rows, and the oracle that judges them.

The expected bits are those of the definition: `thalweg.reference.sum_rows`, then the rule on the
rows that have a sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fuzz_draw import Arena, Draw, good, odd, readable
from fuzz_update import Update, judged
from thalweg import Rows, reference

if TYPE_CHECKING:
    from collections.abc import Sequence

INTEGERS = ("i1", "u2", "i4", "u4", "i8", "i8", "u8")
WRONG = (-1, 2**31 - 1, 2**62, 2**63 - 1)


def shape(draw: Draw) -> tuple[int, ...]:
    """Mostly that of a table."""
    return draw.shape() if draw.chance(0.1) else (draw.choice((1, 2, 5, 17)), *draw.shape()[:2])


def indices(draw: Draw, height: int) -> np.ndarray:
    """Indices of a table, seldom one that it lacks."""
    count = draw.choice((0, 1, 2, 3, 9, 17)) if height else 0
    drawn = np.array([draw.randrange(height) for _ in range(count)], np.int64)
    if draw.chance(0.4):
        drawn = np.unique(drawn)
    if drawn.size and draw.chance(0.03):
        drawn[draw.randrange(drawn.size)] = draw.choice((height, *WRONG))
    dtype = np.dtype(draw.choice(INTEGERS))
    return drawn.astype(dtype if dtype.itemsize > 2 or drawn.max(initial=0) < 128 else "i8")


def are_indices(given: Any) -> bool:
    """Whether `Rows` takes these as indices, and copies them."""
    array = np.asarray(given)
    fits = array.dtype.kind in "iu" or (array.size == 0 and not isinstance(given, np.ndarray))
    fits &= array.ndim == 1 and not isinstance(given, np.ma.MaskedArray)
    return fits and all(0 <= index < 2**63 for index in array.tolist())


class RowsUpdate(Update):
    """A call of `thalweg.functional` with gradients of a few rows; without `indices`, of all."""

    @classmethod
    def names(cls, states: Sequence[str]) -> tuple[str, ...]:
        return ("p", "g", "indices", *states)

    @classmethod
    def row(cls, draw: Draw, states: Sequence[str]) -> dict[str, np.ndarray]:
        size, dtype = shape(draw), draw.dtype()
        row = cls.state(draw, states, size, dtype)
        row["p"] = draw.values(size, dtype)
        if not size or draw.chance(0.1):
            return {**row, "g": draw.values(size, draw.gradient_dtype())}
        row["indices"] = indices(draw, size[0])
        row["g"] = draw.values((len(row["indices"]), *size[1:]), draw.gradient_dtype())
        return row

    @classmethod
    def placed(cls, draw: Draw, arena: Arena, array: Any, *, dense: bool = False) -> Any:
        return None if array is None else super().placed(draw, arena, array, dense=dense)

    @classmethod
    def replaced(cls, draw: Draw, arena: Arena, array: Any) -> Any:
        return None if array is None else odd(draw, arena, array)

    def given(self) -> dict[str, list[Any]]:
        given = super().given()
        chosen = zip(given.pop("indices"), given.pop("g"), strict=True)
        given["g"] = [g if at is None else Rows(at, g) for at, g in chosen]
        return given

    def read(self, row: dict[str, Any]) -> dict[str, Any]:
        return {name: array for name, array in super().read(row).items() if name != "indices"}

    def fits(self, name: str, row: dict[str, Any]) -> bool:
        p, at, array = row["p"], row["indices"], row[name]
        if name not in ("g", "indices") or at is None:
            return at is None if name == "indices" else super().fits(name, row)
        if not (good(p) and p.ndim and self.takes_rows and are_indices(at)):
            return False
        if name == "indices":
            return all(index < len(p) for index in np.asarray(at).tolist())
        return (
            isinstance(array, np.ndarray)
            and readable(array)
            and array.shape == (len(at), *p.shape[1:])
        )

    @property
    def takes_rows(self) -> bool:
        """Whether the rule takes rows without a number of updates for each."""
        values = self.values()
        return "history" not in self.formula.state and not values.get("initial_accumulator_value")

    def gradients(self) -> list[tuple[np.ndarray, np.ndarray]]:
        rows = self.rows()
        return [
            (row["p"], row["g"] if row["indices"] is None else self.sums(row)[1]) for row in rows
        ]

    @staticmethod
    def sums(row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        indices = np.array(row["indices"], np.int64)
        return reference.sum_rows(indices, np.array(row["g"]), row["p"].dtype)

    def expected(self, row: dict[str, Any]) -> dict[str, np.ndarray]:
        arrays = {name: array for name, array in row.items() if name != "indices"}
        if row["indices"] is None:
            return super().expected(arrays)
        chosen, sums = self.sums(row)
        rows = {name: np.array(array)[chosen] for name, array in arrays.items() if name != "g"}
        made = self.applied({"p": rows.pop("p"), "g": sums, **rows})
        whole = {name: np.array(arrays[name]) for name in made}
        for name, array in made.items():
            whole[name][chosen] = array
        return whole


def rows(draw: Draw, arena: Arena) -> str:
    """One call of `thalweg.functional` with gradients of a few rows."""
    return f"rows {judged(RowsUpdate.drawn(draw, arena), arena)}"

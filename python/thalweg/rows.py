"""Gradients of a few rows of a large table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.errors import type_name, typed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Rows"]

LIMIT = 2**63


class Rows:
    """The gradient of a few rows of a parameter, such as a table of embeddings.

    It takes the place of an array: ``opt.step({"emb": Rows(indices, values)})``. The optimizer must
    be told what it means for the other rows: ``rows="lazy"`` or ``rows="dense"``, as an argument of
    the constructor or the key of a group. See *Rows of large tables* in the documentation.

    Parameters
    ----------
    indices : array_like of int
        Indices along the first axis of the parameter, of any integer dtype, in any order; copied.
        Values of a repeated index are summed, in the order given, before anything else.
    values : ndarray
        One row for each index: shape ``(len(indices), *parameter.shape[1:])``. Any dtype and
        strides of a gradient. Neither copied nor written; an array of another library is converted
        by ``np.asarray``.

    Raises
    ------
    TypeError
        If indices are not whole numbers, or values are not an array.
    ValueError
        If indices have not one axis, if one is negative, or if values have another number of rows.

    Notes
    -----
    Sums are taken in the type in which the parameter is updated, float32 or float64, after each
    value is cast to it. `thalweg.reference.sum_rows` gives the same bits.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> table = np.ones((5, 2))
    >>> opt = thalweg.SGD({"emb": table}, lr=1.0, rows="lazy")
    >>> rows = thalweg.Rows([3, 1, 3], np.array([[0.25, 0.0], [0.5, 0.0], [0.25, 1.0]]))
    >>> report = opt.step({"emb": rows})
    >>> table[[1, 3]]
    array([[0.5, 1. ],
           [0.5, 0. ]])
    """

    __slots__ = ("_indices", "_values")

    def __init__(self, indices: ArrayLike, values: Any) -> None:
        self._indices = _checked(indices)
        self._values = _array(values)
        rows = self._values.shape[:1]
        if rows != self._indices.shape:
            raise ValueError(
                f"values must have one row for each of {len(self._indices)} indices, got shape "
                f"{self._values.shape}"
            )

    @classmethod
    def from_scipy(cls, matrix: Any) -> Rows:
        """The rows with stored entries of a SciPy sparse matrix or array, each made dense.

        Parameters
        ----------
        matrix : scipy.sparse matrix or array
            With two axes, in any format; it is converted to CSR. Entries at the same place are
            summed by SciPy.

        Returns
        -------
        Rows
            Rows in increasing order.

        Raises
        ------
        TypeError
            If `matrix` is not a sparse matrix.
        ValueError
            If it has not two axes.

        Examples
        --------
        >>> import numpy as np, scipy.sparse, thalweg
        >>> matrix = scipy.sparse.csr_array(([1.0, 2.0], ([4, 0], [1, 2])), shape=(5, 3))
        >>> thalweg.Rows.from_scipy(matrix)
        Rows(2 rows of shape (3,), float64)
        """
        if not callable(getattr(matrix, "tocsr", None)):
            raise TypeError(f"matrix must be a sparse matrix of SciPy, got {type_name(matrix)}")
        if matrix.ndim != 2:
            raise ValueError(f"matrix must have two axes, got shape {matrix.shape}")
        csr = matrix.tocsr()
        rows = np.flatnonzero(np.diff(csr.indptr))
        return cls(rows, csr[rows].toarray())

    @property
    def indices(self) -> NDArray[np.int64]:
        """The indices, a read-only array."""
        return self._indices

    @property
    def values(self) -> NDArray[Any]:
        """The values, as given."""
        return self._values

    def __len__(self) -> int:
        return len(self._indices)

    def __repr__(self) -> str:
        return f"Rows({len(self)} rows of shape {self._values.shape[1:]}, {self._values.dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._indices, self._values)


def _checked(indices: ArrayLike) -> NDArray[np.int64]:
    """A read-only copy of the indices as int64."""
    if isinstance(indices, np.ma.MaskedArray):
        raise TypeError("indices must be integers, got a masked array; drop those that are masked")
    given = np.asarray(indices)
    if given.size == 0 and not isinstance(indices, np.ndarray):
        given = given.astype(np.int64)  # an empty list
    if given.dtype.kind not in "iu":
        raise TypeError(f"indices must be integers, got dtype {given.dtype}")
    if given.ndim != 1:
        raise ValueError(f"indices must have one axis, got shape {given.shape}")
    wrong = np.flatnonzero((given < 0) | (given >= LIMIT))
    if wrong.size:
        at = int(wrong[0])
        raise ValueError(
            f"indices must be at least 0 and below 2**63, got {given[at]} at position {at}"
        )
    copied = np.array(given, np.int64, order="C", subok=False)
    copied.flags.writeable = False
    return copied


def _array(values: Any) -> NDArray[Any]:
    """The values as an ndarray with at least one axis."""
    if not isinstance(values, np.ndarray) and not hasattr(type(values), "__array__"):
        raise TypeError(f"values must be an ndarray, got {typed(values)}")
    array: NDArray[Any] = np.asanyarray(values)
    if array.ndim == 0:
        raise ValueError("values must have one row for each index, got a number")
    return array

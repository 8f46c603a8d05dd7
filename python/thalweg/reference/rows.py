"""Gradients of some rows of a parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from thalweg.reference.terms import Array

__all__ = ["lazy", "sum_rows"]


def sum_rows(indices: ArrayLike, values: Array, dtype: Any) -> tuple[Array, Array]:
    """The rows that the indices name, in their order, and the sum of the values of each.

    Values are cast to `dtype`, float32 or float64, and those of a repeated index are added in the
    order in which they are given.

    Examples
    --------
    >>> import numpy as np
    >>> sum_rows([3, 1, 3], np.array([[1.0], [2.0], [4.0]]), np.float32)
    (array([1, 3]), array([[2.],
           [5.]], dtype=float32))
    """
    indices, values = np.asarray(indices), np.asarray(values, dtype)
    rows, first, place = np.unique(indices, return_index=True, return_inverse=True)
    sums = values[first]
    for position in sorted({*range(len(indices))} - {*first.tolist()}):
        sums[place[position]] += values[position]
    return rows, sums


def lazy(
    update: Callable[..., tuple[Array, ...]],
    p: Array,
    rows: Array,
    g: Array,
    state: Sequence[Array],
    **options: Any,
) -> tuple[Array, ...]:
    """One update of some rows of a parameter and its state; the other rows stay as they are.

    Parameters
    ----------
    update : callable
        The rule, such as `adam`: it takes ``p, g, *state`` and `options`.
    p : ndarray
        The parameter.
    rows : ndarray
        Indices of rows, each at most once.
    g : ndarray
        The gradient of each of these rows.
    state : sequence of ndarray
        State arrays of the shape of `p`.
    **options
        Other arguments of the rule. ``step`` is the 1-based number of this update: that of the
        parameter or, with ``row_steps``, of these rows.

    Returns
    -------
    tuple of ndarray
        New parameter and state.

    Examples
    --------
    >>> import numpy as np
    >>> from thalweg import reference
    >>> p, m = np.ones((3, 1)), np.zeros((3, 1))
    >>> rows, g = np.array([1]), np.ones((1, 1))
    >>> p, m = lazy(reference.lion, p, rows, g, [m], lr=0.25)
    >>> p.ravel()
    array([1.  , 0.75, 1.  ])
    """
    arrays = [p.copy(), *(array.copy() for array in state)]
    updated = update(p[rows], g, *(array[rows] for array in state), **options)
    for array, new in zip(arrays, updated, strict=True):
        array[rows] = new
    return tuple(arrays)

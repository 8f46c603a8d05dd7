"""The encodings of narrow parameters and state in plain NumPy; see `thalweg.compact`.

The core equals them bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCK",
    "decode_bfloat16",
    "decode_e5m3",
    "encode_bfloat16",
    "encode_e5m3",
    "join_bfloat16",
    "join_float16",
    "split_bfloat16",
    "split_float16",
]

Array = NDArray[Any]

BLOCK = 64
"""Elements of the flat array, in C order, that share an exponent in `encode_e5m3`."""

_NAN = np.uint32(0x7FC00000)
_U = np.uint32


def _bits(x: Array) -> Array:
    """The bits of float32 numbers, of one NaN for all."""
    x = np.asarray(x, np.float32)
    return np.where(np.isnan(x), _NAN, x.view(_U))


def _real(bits: Array) -> Array:
    return np.asarray(bits, _U).view(np.float32)


def _word(step: int) -> int:
    """The dither of bfloat16 state in a step, below 2¹⁶: a low-discrepancy sequence."""
    return (step * 0xC13FA9A9 & 0xFFFFFFFF) >> 16


def _strata(step: int) -> Array:
    """The dither of a block in a step, below 2²⁰: sixteen strata in turn, moved by a hash."""
    x = (step ^ step >> 32) & 0xFFFFFFFF
    x = (x ^ x >> 16) * 0x7FEB352D & 0xFFFFFFFF
    x = (x ^ x >> 15) * 0x846CA68B & 0xFFFFFFFF
    x ^= x >> 16
    words = (x + np.arange(BLOCK, dtype=np.uint64) % 16 * 0x90000000) % 2**32
    return (words >> np.uint64(12)).astype(_U)


def encode_bfloat16(x: Array, step: int | None = None) -> Array:
    """The bits of float32 numbers as bfloat16, in an array of uint16.

    Parameters
    ----------
    x : ndarray of float32
        Numbers of any shape.
    step : int, optional
        Number of the update, which decides the dither; without it the nearest bfloat16, and of two
        as near the even one.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([1.0, 1.001], np.float32)
    >>> decode_bfloat16(encode_bfloat16(x))
    array([1., 1.], dtype=float32)
    >>> kept = [decode_bfloat16(encode_bfloat16(x, t)) for t in range(1, 1001)]
    >>> np.mean(kept, axis=0).round(3)
    array([1.   , 1.001], dtype=float32)
    """
    bits = _bits(x)
    add = 0x7FFF + (bits >> _U(16) & _U(1)) if step is None else _U(_word(step))
    return np.asarray((bits + add) >> _U(16)).astype(np.uint16)


def decode_bfloat16(bits: Array) -> Array:
    """The float32 numbers of bfloat16 bits, exactly; the inverse of `encode_bfloat16`."""
    return _real(np.asarray(bits).astype(_U) << _U(16))


def encode_e5m3(v: Array, step: int | None = None) -> tuple[Array, Array]:
    """Numbers of at least 0 in one byte each, and the exponents of their blocks.

    A block is 64 elements of the flat array in C order; the last one may be shorter. In the bits of
    float32, a block's exponent ``base`` is 31 octaves below the block's largest number (at least
    12, or 0 for a block of zeros), and a code counts eighths of an octave from there:
    ``code = (max(bits, base·2²³) - base·2²³ + dither) / 2²⁰``, rounded down.

    Parameters
    ----------
    v : ndarray of float32
        Second moments; negative numbers count as 0.
    step : int, optional
        Number of the update, which decides the dither; without it numbers are rounded to nearest.

    Returns
    -------
    codes : ndarray of uint8
        Of the shape of `v`.
    bases : ndarray of uint8
        One for each block.

    Examples
    --------
    >>> import numpy as np
    >>> codes, bases = encode_e5m3(np.array([1.0, 0.25, 1e-30, 0.3], np.float32))
    >>> decode_e5m3(codes, bases)
    array([1.000000e+00, 2.500000e-01, 4.656613e-10, 3.125000e-01],
          dtype=float32)
    """
    v = np.asarray(v, np.float32)
    count = -(-v.size // BLOCK)
    padded = np.zeros(count * BLOCK, np.int64)
    # As signed numbers, the bits of negative ones are negative.
    padded[: v.size] = _bits(v).view(np.int32).ravel(order="C")
    blocks = np.maximum(padded.reshape(count, BLOCK), 0)
    top = blocks.max(axis=1)
    bases = np.where(top == 0, 0, np.maximum((top + 0xFFFFF) >> 23, 43) - 31)
    floor = bases[:, None] << 23
    dither = 1 << 19 if step is None else _strata(step).astype(np.int64)
    codes = (np.maximum(blocks, floor) - floor + dither) >> 20
    codes = np.where(top[:, None] == 0, 0, np.minimum(codes, 255))
    return codes.astype(np.uint8).ravel()[: v.size].reshape(v.shape), bases.astype(np.uint8)


def decode_e5m3(codes: Array, bases: Array) -> Array:
    """The float32 numbers of codes and the exponents of their blocks; see `encode_e5m3`."""
    codes = np.asarray(codes, np.uint8)
    floors = np.repeat(np.asarray(bases, np.uint8).astype(_U) << _U(23), BLOCK)[: codes.size]
    return _real((codes.ravel(order="C").astype(_U) << _U(20)) + floors).reshape(codes.shape)


def split_bfloat16(p: Array) -> tuple[Array, Array]:
    """A float32 parameter as the bits of a live bfloat16 (uint16) and what it lacks (int16).

    The live number is the nearest; halves go up in magnitude. Both together are exactly `p`.

    Examples
    --------
    >>> import numpy as np
    >>> live, low = split_bfloat16(np.array([0.1], np.float32))
    >>> decode_bfloat16(live), join_bfloat16(live, low)
    (array([0.10009766], dtype=float32), array([0.1], dtype=float32))
    """
    bits = _bits(p)
    live = np.asarray((bits + _U(0x8000)) >> _U(16)).astype(np.uint16)
    return live, bits.astype(np.uint16).view(np.int16)


def join_bfloat16(live: Array, low: Array) -> Array:
    """The float32 parameter of its two parts; `live` are bits, or an array of bfloat16."""
    high = np.asarray(live).view(np.uint16).astype(_U) << _U(16)
    return _real(high + np.asarray(low).astype(np.int32).view(_U))


def _unit(live: Array) -> Array:
    """The unit of what a float16 lacks: 2⁻¹⁵ of its last place."""
    exponent = live.view(np.uint16) >> np.uint16(10) & np.uint16(31)
    return _real((np.maximum(exponent, 1).astype(_U) + _U(127 - 40)) << _U(23))


def split_float16(p: Array) -> tuple[Array, Array]:
    """A float32 parameter as a live float16 and what it lacks (int16).

    The live number is the nearest float16. Both together are exactly `p` if its magnitude is at
    least 2⁻¹⁶ and below 65,520; smaller ones are rounded to a multiple of 2⁻³⁹, larger ones become
    infinite.

    Examples
    --------
    >>> import numpy as np
    >>> live, low = split_float16(np.array([0.1], np.float32))
    >>> live, join_float16(live, low)
    (array([0.1], dtype=float16), array([0.1], dtype=float32))
    """
    p = np.asarray(p, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        live = p.astype(np.float16)
        low = np.rint((p - live.astype(np.float32)) / _unit(live))
    return live, np.where(np.isfinite(live), low, 0).astype(np.int16)


def join_float16(live: Array, low: Array) -> Array:
    """The float32 parameter of its two parts; the inverse of `split_float16`."""
    live = np.asarray(live, np.float16)
    return np.asarray(live.astype(np.float32) + np.asarray(low).astype(np.float32) * _unit(live))

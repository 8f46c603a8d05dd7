"""What a BERT layer is made of, forwards and backwards, in NumPy.

Each `*_backward` takes the gradient with respect to the result and gives that with respect to the
inputs, as far as something that is trained depends on them. Weights are frozen and get none.
float32 stays float32; float64, in which the tests take differences, stays float64.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]
Weights: TypeAlias = dict[str, dict[str, Floats]]

HEADS = 12
"""Of attention; a model's `config.json` says it, as `num_attention_heads`."""
EPS = 1e-12
"""Of layer norms; `layer_norm_eps`."""


def linear(x: Floats, weights: dict[str, Floats]) -> Floats:
    """``x @ W.T + b``, with `W` of shape (outputs, inputs)."""
    result: Floats = x @ weights["weight"].T
    result += weights["bias"]
    return result


def gelu(x: Floats) -> tuple[Floats, Floats]:
    """``x·Φ(x)``, exact, and ``Φ(x)``, the normal distribution's, for `gelu_backward`."""
    phi = ndtr(x)
    return x * phi, phi


def gelu_backward(gradient: Floats, x: Floats, phi: Floats) -> Floats:
    """The derivative is ``Φ(x) + x·exp(-x²/2)/√(2π)``."""
    slope = np.square(x)
    slope *= -0.5
    np.exp(slope, out=slope)
    slope *= x
    slope *= 1 / math.sqrt(2 * math.pi)
    slope += phi
    slope *= gradient
    return slope


def layer_norm(x: Floats, weights: dict[str, Floats]) -> tuple[Floats, Floats, Floats]:
    """The result; and for `layer_norm_backward` the standardised rows and 1/deviation of each."""
    rows = x - x.mean(axis=-1, keepdims=True)
    inverse = 1 / np.sqrt(np.square(rows).mean(axis=-1, keepdims=True) + EPS)
    rows *= inverse
    return rows * weights["weight"] + weights["bias"], rows, inverse


def layer_norm_backward(
    gradient: Floats, weights: dict[str, Floats], rows: Floats, inverse: Floats
) -> Floats:
    """Neither a row's mean nor its length moves the result, so those directions are taken out."""
    inner: Floats = gradient * weights["weight"]
    along = (inner * rows).mean(axis=-1, keepdims=True)
    inner -= inner.mean(axis=-1, keepdims=True)
    inner -= along * rows
    inner *= inverse
    return inner


def split_heads(x: Floats, mask: Mask) -> Floats:
    """(documents · tokens, width) as (documents, heads, tokens, width / heads), a view."""
    return x.reshape(*mask.shape, HEADS, -1).swapaxes(1, 2)


def join_heads(x: Floats) -> Floats:
    """What `split_heads` came from."""
    documents, heads, tokens, width = x.shape
    return x.swapaxes(1, 2).reshape(documents * tokens, heads * width)


def attention(q: Floats, k: Floats, v: Floats, mask: Mask) -> tuple[Floats, Floats]:
    """What each token takes from those of its document, and its share of each."""
    shares: Floats = q @ k.swapaxes(-1, -2)
    shares *= 1 / math.sqrt(q.shape[-1])
    shares -= shares.max(axis=-1, keepdims=True)
    np.exp(shares, out=shares)
    shares *= mask[:, None, None, :]  # nothing is taken from padding
    shares /= shares.sum(axis=-1, keepdims=True)
    return shares @ v, shares


def attention_backward(
    gradient: Floats, k: Floats, v: Floats, shares: Floats
) -> tuple[Floats, Floats]:
    """With respect to `q` and `v`; no trained parameter is behind `k`."""
    inner: Floats = gradient @ v.swapaxes(-1, -2)
    inner -= (inner * shares).sum(axis=-1, keepdims=True)
    inner *= shares
    inner *= 1 / math.sqrt(k.shape[-1])
    return inner @ k, shares.swapaxes(-1, -2) @ gradient

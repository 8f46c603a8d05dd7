"""The parts of a BERT layer in NumPy, forward and backward.

Each `*_backward` takes the gradient with respect to the output and returns the gradients with
respect to those inputs that depend on trained parameters. The weights of the layer are frozen and
get no gradient. The dtype is kept: float32 in training, float64 for finite differences in tests.
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
"""Heads of the attention; `num_attention_heads` in the model's `config.json`."""
EPS = 1e-12
"""Added to the variance in layer norms; `layer_norm_eps` in `config.json`."""


def linear(x: Floats, weights: dict[str, Floats]) -> Floats:
    """``x @ W.T + b``, with `W` of shape (outputs, inputs)."""
    result: Floats = x @ weights["weight"].T
    result += weights["bias"]
    return result


def gelu(x: Floats) -> tuple[Floats, Floats]:
    """``x·Φ(x)`` without approximation, and ``Φ(x)``, the normal distribution, for the gradient."""
    phi = ndtr(x)
    return x * phi, phi


def gelu_backward(gradient: Floats, x: Floats, phi: Floats) -> Floats:
    """`gradient` times the derivative, ``Φ(x) + x·exp(-x²/2)/√(2π)``."""
    slope = np.square(x)
    slope *= -0.5
    np.exp(slope, out=slope)
    slope *= x
    slope *= 1 / math.sqrt(2 * math.pi)
    slope += phi
    slope *= gradient
    return slope


def layer_norm(x: Floats, weights: dict[str, Floats]) -> tuple[Floats, Floats, Floats]:
    """The output, and for the gradient the standardised rows and 1/deviation of each row."""
    rows = x - x.mean(axis=-1, keepdims=True)
    inverse = 1 / np.sqrt(np.square(rows).mean(axis=-1, keepdims=True) + EPS)
    rows *= inverse
    return rows * weights["weight"] + weights["bias"], rows, inverse


def layer_norm_backward(
    gradient: Floats, weights: dict[str, Floats], rows: Floats, inverse: Floats
) -> Floats:
    """Project out a row's mean and length, since the output does not depend on them."""
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
    """The inverse of `split_heads`."""
    documents, heads, tokens, width = x.shape
    return x.swapaxes(1, 2).reshape(documents * tokens, heads * width)


def attention(q: Floats, k: Floats, v: Floats, mask: Mask) -> tuple[Floats, Floats]:
    """The attended values, and the attention weights of each token over its document."""
    shares: Floats = q @ k.swapaxes(-1, -2)
    shares *= 1 / math.sqrt(q.shape[-1])
    shares -= shares.max(axis=-1, keepdims=True)
    np.exp(shares, out=shares)
    shares *= mask[:, None, None, :]  # padding has no weight
    shares /= shares.sum(axis=-1, keepdims=True)
    return shares @ v, shares


def attention_backward(
    gradient: Floats, k: Floats, v: Floats, shares: Floats
) -> tuple[Floats, Floats]:
    """Gradients with respect to `q` and `v`; `k` depends on no trained parameter."""
    inner: Floats = gradient @ v.swapaxes(-1, -2)
    inner -= (inner * shares).sum(axis=-1, keepdims=True)
    inner *= shares
    inner *= 1 / math.sqrt(k.shape[-1])
    return inner @ k, shares.swapaxes(-1, -2) @ gradient

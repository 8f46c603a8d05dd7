"""The parts of a BERT layer in NumPy, forward and backward.

Each `*_backward` takes the gradient with respect to the output and returns the gradients with
respect to the inputs; from those and the inputs follow the gradients of weights, where they train.
The dtype is kept: float32 in training, float64 for finite differences in tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]
Weights: TypeAlias = dict[str, dict[str, Floats]]

HEADS = 12
"""Heads of the attention; `num_attention_heads` in the model's `config.json`."""
PROJECTIONS = ("query", "key", "value")
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
    gradient: Floats, q: Floats, k: Floats, v: Floats, shares: Floats
) -> tuple[Floats, Floats, Floats]:
    """Gradients with respect to `q`, `k` and `v`."""
    inner: Floats = gradient @ v.swapaxes(-1, -2)
    inner -= (inner * shares).sum(axis=-1, keepdims=True)
    inner *= shares
    inner *= 1 / math.sqrt(k.shape[-1])
    return inner @ k, inner.swapaxes(-1, -2) @ q, shares.swapaxes(-1, -2) @ gradient


@dataclass
class Kept:
    """Values of a layer's forward pass that its backward pass needs, by the names of its parts."""

    mask: Mask
    heads: tuple[Floats, Floats, Floats]
    """Queries, keys and values, each split into heads."""
    shares: Floats
    taken: Floats
    """The input of ``attended``: what the heads took from the values, joined."""
    attended_norm: tuple[Floats, Floats]
    up: Floats
    """The input of ``up``."""
    inner: tuple[Floats, Floats]
    down_norm: tuple[Floats, Floats]


def project(x: Floats, layer: Weights) -> dict[str, Floats]:
    """Queries, keys and values of a layer's input."""
    return {part: linear(x, layer[part]) for part in PROJECTIONS}


def layer_forward(
    x: Floats, mask: Mask, projected: dict[str, Floats], layer: Weights
) -> tuple[Floats, Kept]:
    """A layer from its projections on: the output, (documents · tokens, width)."""
    q, k, v = (split_heads(projected[part], mask) for part in PROJECTIONS)
    values, shares = attention(q, k, v, mask)
    taken = join_heads(values)
    up, *attended_norm = layer_norm(linear(taken, layer["attended"]) + x, layer["attended_norm"])
    before = linear(up, layer["up"])
    inner, phi = gelu(before)
    out, *down_norm = layer_norm(linear(inner, layer["down"]) + up, layer["down_norm"])
    return out, Kept(
        mask=mask,
        heads=(q, k, v),
        shares=shares,
        taken=taken,
        attended_norm=(attended_norm[0], attended_norm[1]),
        up=up,
        inner=(before, phi),
        down_norm=(down_norm[0], down_norm[1]),
    )


def layer_backward(gradient: Floats, kept: Kept, layer: Weights) -> dict[str, Floats]:
    """Gradients with respect to the output of each part, from that of the layer's output.

    That of ``attended`` is also the layer's input's, along the path around the attention.
    """
    down = layer_norm_backward(gradient, layer["down_norm"], *kept.down_norm)
    up = gelu_backward(down @ layer["down"]["weight"], *kept.inner)
    normed = down + up @ layer["up"]["weight"]
    attended = layer_norm_backward(normed, layer["attended_norm"], *kept.attended_norm)
    taken = split_heads(attended @ layer["attended"]["weight"], kept.mask)
    heads = attention_backward(taken, *kept.heads, kept.shares)
    return {
        **{part: join_heads(each) for part, each in zip(PROJECTIONS, heads, strict=True)},
        "attended": attended,
        "attended_norm": normed,
        "up": up,
        "down": down,
        "down_norm": gradient,
    }


@dataclass
class Pooled:
    """Embeddings, and what their backward pass needs."""

    embeddings: Floats
    """The mean over a document's tokens, scaled to length 1: (documents, width)."""
    mean: Floats
    inverse: Floats


def pool(out: Floats, mask: Mask) -> Pooled:
    """Embeddings from the output of the last layer."""
    mean = (mask / mask.sum(axis=1, keepdims=True)).astype(out.dtype)
    pooled = (mean[:, None, :] @ out.reshape(*mask.shape, -1))[:, 0]
    inverse = 1 / np.sqrt(np.square(pooled).sum(axis=1, keepdims=True))
    return Pooled(pooled * inverse, mean, inverse)


def pool_backward(gradient: Floats, kept: Pooled) -> Floats:
    """Gradient with respect to the output of the last layer, (documents · tokens, width)."""
    along = (gradient * kept.embeddings).sum(axis=1, keepdims=True)
    pooled = (gradient - along * kept.embeddings) * kept.inverse
    out: Floats = kept.mean[:, :, None] * pooled[:, None, :]
    return out.reshape(-1, pooled.shape[1])

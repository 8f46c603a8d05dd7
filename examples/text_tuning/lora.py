"""The last layer with LoRA on its queries and values: forward to embeddings, and backward.

A projection ``x @ W.T + bias`` becomes ``x @ W.T + bias + SCALE · (x @ a.T) @ b.T``. `a`, of shape
(rank, inputs), starts random; `b`, of shape (outputs, rank), starts at zero, so that the initial
layer is the frozen one. Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from layers import (
    Floats,
    Mask,
    Weights,
    attention,
    attention_backward,
    gelu,
    gelu_backward,
    join_heads,
    layer_norm,
    layer_norm_backward,
    linear,
    split_heads,
)
from minilm import by_length, pad

TUNED = ("query", "value")
SCALE = 2.0


def initial(rank: int, width: int, generator: np.random.Generator) -> Weights:
    """Initial LoRA parameters in float32; they do not change the layer."""
    return {
        part: {
            "a": (generator.standard_normal((rank, width)) / math.sqrt(width)).astype(np.float32),
            "b": np.zeros((width, rank), np.float32),
        }
        for part in TUNED
    }


@dataclass
class Pass:
    """Values of a forward pass that the backward pass needs; `low` is ``x @ a.T``."""

    x: Floats
    mask: Mask
    low: dict[str, Floats]
    k: Floats
    v: Floats
    shares: Floats
    attended: tuple[Floats, Floats]
    inner: tuple[Floats, Floats]
    down: tuple[Floats, Floats]
    mean: Floats
    inverse: Floats
    embeddings: Floats


def embed(params: dict[str, Any], x: Floats, mask: Mask) -> Pass:
    """Apply the layer, take the mean over tokens, and scale it to length 1.

    Parameters
    ----------
    params : dict
        The parameters ``layer`` (frozen) and ``lora``.
    x : ndarray, (documents · tokens, width)
        Output of the layer below.
    mask : ndarray of bool, (documents, tokens)
        False at padding.
    """
    layer, lora = params["layer"], params["lora"]
    low = {part: x @ lora[part]["a"].T for part in TUNED}
    projected = {part: linear(x, layer[part]) for part in ("query", "key", "value")}
    for part in TUNED:
        projected[part] += SCALE * (low[part] @ lora[part]["b"].T)
    q, k, v = (split_heads(each, mask) for each in projected.values())
    taken, shares = attention(q, k, v, mask)
    attended, *attended_norm = layer_norm(
        linear(join_heads(taken), layer["attended"]) + x, layer["attended_norm"]
    )
    before = linear(attended, layer["up"])
    inner, phi = gelu(before)
    out, *down_norm = layer_norm(linear(inner, layer["down"]) + attended, layer["down_norm"])
    mean = (mask / mask.sum(axis=1, keepdims=True)).astype(x.dtype)
    pooled = (mean[:, None, :] @ out.reshape(*mask.shape, -1))[:, 0]
    inverse = 1 / np.sqrt(np.square(pooled).sum(axis=1, keepdims=True))
    return Pass(
        x=x,
        mask=mask,
        low=low,
        k=k,
        v=v,
        shares=shares,
        attended=(attended_norm[0], attended_norm[1]),
        inner=(before, phi),
        down=(down_norm[0], down_norm[1]),
        mean=mean,
        inverse=inverse,
        embeddings=pooled * inverse,
    )


def gradients(params: dict[str, Any], kept: Pass, gradient: Floats) -> Weights:
    """Gradients of ``params["lora"]`` from `gradient`, that of the embeddings."""
    layer, lora = params["layer"], params["lora"]
    along = (gradient * kept.embeddings).sum(axis=1, keepdims=True)
    pooled = (gradient - along * kept.embeddings) * kept.inverse
    out = (kept.mean[:, :, None] * pooled[:, None, :]).reshape(kept.x.shape)
    out = layer_norm_backward(out, layer["down_norm"], *kept.down)
    inner = gelu_backward(out @ layer["down"]["weight"], *kept.inner)
    out += inner @ layer["up"]["weight"]
    out = layer_norm_backward(out, layer["attended_norm"], *kept.attended)
    taken = split_heads(out @ layer["attended"]["weight"], kept.mask)
    both = attention_backward(taken, kept.k, kept.v, kept.shares)
    found: Weights = {}
    for part, heads in zip(TUNED, both, strict=True):
        projected = SCALE * join_heads(heads)
        found[part] = {
            "a": (projected @ lora[part]["b"]).T @ kept.x,
            "b": projected.T @ kept.low[part],
        }
    return found


def embed_all(params: dict[str, Any], states: list[Floats]) -> Floats:
    """Embeddings of documents, of shape (documents, width)."""
    found = np.empty((len(states), states[0].shape[1]), states[0].dtype)
    for batch in by_length(states):
        found[batch] = embed(params, *pad([states[i] for i in batch])).embeddings
    return found

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
    Kept,
    Mask,
    Pooled,
    Weights,
    layer_backward,
    layer_forward,
    pool,
    pool_backward,
    project,
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
    low: dict[str, Floats]
    layer: Kept
    pooled: Pooled

    @property
    def embeddings(self) -> Floats:
        """Embeddings of the documents, (documents, width), each of length 1."""
        return self.pooled.embeddings


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
    projected = project(x, layer)
    for part in TUNED:
        projected[part] += SCALE * (low[part] @ lora[part]["b"].T)
    out, kept = layer_forward(x, mask, projected, layer)
    return Pass(x, low, kept, pool(out, mask))


def gradients(params: dict[str, Any], kept: Pass, gradient: Floats) -> Weights:
    """Gradients of ``params["lora"]`` from `gradient`, that of the embeddings."""
    slopes = layer_backward(pool_backward(gradient, kept.pooled), kept.layer, params["layer"])
    found: Weights = {}
    for part in TUNED:
        projected = SCALE * slopes[part]
        found[part] = {
            "a": (projected @ params["lora"][part]["b"]).T @ kept.x,
            "b": projected.T @ kept.low[part],
        }
    return found


def embed_all(params: dict[str, Any], states: list[Floats]) -> Floats:
    """Embeddings of documents, of shape (documents, width)."""
    found = np.empty((len(states), states[0].shape[1]), states[0].dtype)
    for batch in by_length(states):
        found[batch] = embed(params, *pad([states[i] for i in batch])).embeddings
    return found

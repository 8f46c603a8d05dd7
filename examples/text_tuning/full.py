"""The whole model, trainable: forward to embeddings, and the gradients of all weights.

Weights are float32 arrays, or uint16 arrays with the bits of bfloat16 numbers. Those become float32
layer by layer, as they are needed, and their gradients are rounded to bfloat16 as they are made, so
that no float32 copy of the model exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import minilm
import numpy as np
from layers import (
    PROJECTIONS,
    Floats,
    Kept,
    Mask,
    Pooled,
    layer_backward,
    layer_forward,
    layer_norm,
    layer_norm_backward,
    pool,
    pool_backward,
    project,
)

from thalweg.compact import decode_bfloat16, encode_bfloat16

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def trainable(weights: dict[str, Floats], *, bfloat16: bool) -> dict[str, Any]:
    """Copies of the weights that embeddings depend on, as a tree.

    Parameters
    ----------
    weights : dict
        Arrays by their names in the model's file.
    bfloat16 : bool
        Whether the copies are rounded to bfloat16.
    """

    def copy(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: copy(branch) for name, branch in tree.items()}
        return encode_bfloat16(tree) if bfloat16 else tree.copy()

    return {
        "embeddings": copy(
            {
                part: {"weight": weights[f"embeddings.{part}_embeddings.weight"]}
                for part in minilm.EMBEDDINGS
            }
            | {"norm": minilm.embeddings_norm(weights)}
        ),
        "layers": [copy(minilm.layer_weights(weights, number)) for number in range(minilm.LAYERS)],
    }


@dataclass
class Pass:
    """Values of a forward pass that the backward pass needs."""

    tokens: NDArray[np.int64]
    positions: NDArray[np.intp]
    norm: tuple[Floats, Floats]
    inputs: list[Floats]
    """The input of each layer."""
    layers: list[Kept]
    pooled: Pooled

    @property
    def embeddings(self) -> Floats:
        """Embeddings of the documents, (documents, width), each of length 1."""
        return self.pooled.embeddings


def embed(params: dict[str, Any], tokens: NDArray[np.int64], mask: Mask) -> Pass:
    """Embeddings of padded documents: `tokens`, (documents · tokens,), and their `mask`."""
    positions = np.tile(np.arange(mask.shape[1]), len(mask))
    x, *norm = _first(params, tokens, positions)
    inputs, kept = [], []
    for weights in params["layers"]:
        layer = _exact(weights)
        inputs.append(x)
        x, values = layer_forward(x, mask, project(x, layer), layer)
        kept.append(values)
    return Pass(tokens, positions, (norm[0], norm[1]), inputs, kept, pool(x, mask))


def gradients(params: dict[str, Any], kept: Pass, gradient: Floats) -> dict[str, Any]:
    """Gradients of all parameters from `gradient`, that of the embeddings.

    Each has the type of its parameter.
    """
    x = pool_backward(gradient, kept.pooled)
    found: list[Any] = []
    for weights, values in zip(params["layers"][::-1], kept.layers[::-1], strict=True):
        layer = _exact(weights)
        slopes = layer_backward(x, values, layer)
        inputs = kept.inputs[len(params["layers"]) - 1 - len(found)]
        found.append(_rounded(_of_weights(slopes, inputs, values), weights))
        x = slopes["attended"]
        for part in PROJECTIONS:
            x = x + slopes[part] @ layer[part]["weight"]
    parts = params["embeddings"]
    rows, inverse = kept.norm
    below = layer_norm_backward(x, _exact(parts["norm"]), rows, inverse)
    return {
        "embeddings": {
            "word": {"weight": _of_rows(below, kept.tokens, parts["word"]["weight"])},
            "position": {"weight": _of_rows(below, kept.positions, parts["position"]["weight"])},
            "token_type": {
                "weight": _of_rows(below, np.zeros_like(kept.tokens), parts["token_type"]["weight"])
            },
            "norm": _rounded(_of_norm(x, rows), parts["norm"]),
        },
        "layers": found[::-1],
    }


def embed_all(params: dict[str, Any], documents: Sequence[NDArray[np.int64]]) -> Floats:
    """Embeddings of documents, of shape (documents, width); keeps nothing for a backward pass."""
    found = np.empty((len(documents), params["embeddings"]["word"]["weight"].shape[1]), np.float32)
    for batch in minilm.by_length(documents):
        tokens, mask = minilm.pad([documents[i] for i in batch])
        x = _first(params, tokens, np.tile(np.arange(mask.shape[1]), len(mask)))[0]
        for weights in params["layers"]:
            layer = _exact(weights)
            x = layer_forward(x, mask, project(x, layer), layer)[0]
        found[batch] = pool(x, mask).embeddings
    return found


def _first(
    params: dict[str, Any], tokens: NDArray[np.int64], positions: NDArray[np.intp]
) -> tuple[Floats, Floats, Floats]:
    """The input of the first layer, and what its layer norm kept."""
    parts = params["embeddings"]
    x = _exact(parts["word"]["weight"][tokens])
    x = x + _exact(parts["position"]["weight"][positions])
    x += _exact(parts["token_type"]["weight"][0])
    return layer_norm(x, _exact(parts["norm"]))


def _of_weights(slopes: dict[str, Floats], x: Floats, kept: Kept) -> dict[str, Any]:
    """Gradients of a layer's weights, from those of the outputs of its parts."""
    before, phi = kept.inner
    inputs = {
        **dict.fromkeys(PROJECTIONS, x),
        "attended": kept.taken,
        "up": kept.up,
        "down": before * phi,
    }
    linear = {
        part: {"weight": slopes[part].T @ given, "bias": slopes[part].sum(axis=0)}
        for part, given in inputs.items()
    }
    norms = {part: _of_norm(slopes[part], getattr(kept, part)[0]) for part in minilm.NORMS}
    return {**linear, **norms}


def _of_norm(slope: Floats, rows: Floats) -> dict[str, Floats]:
    return {"weight": (slope * rows).sum(axis=0), "bias": slope.sum(axis=0)}


def _of_rows(slope: Floats, chosen: NDArray[Any], table: Floats) -> Floats:
    """Gradient of a table from those of the rows that were chosen; other rows have zeros."""
    rows, places = np.unique(chosen, return_inverse=True)
    sums = np.zeros((len(rows), table.shape[1]), slope.dtype)
    np.add.at(sums, places, slope)
    found = np.zeros_like(table)
    found[rows] = _rounded(sums, table)
    return found


def _exact(tree: Any) -> Any:
    """Weights as they are computed with: uint16 arrays as float32."""
    if isinstance(tree, dict):
        return {name: _exact(branch) for name, branch in tree.items()}
    return decode_bfloat16(tree) if tree.dtype == np.uint16 else tree


def _rounded(gradients: Any, weights: Any) -> Any:
    """Gradients in the types of their weights."""
    if isinstance(gradients, dict):
        return {name: _rounded(each, weights[name]) for name, each in gradients.items()}
    return encode_bfloat16(gradients) if weights.dtype == np.uint16 else gradients

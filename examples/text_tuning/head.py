"""The classifier on top of embeddings: softmax regression that starts at the nearest centroid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from layers import Floats
    from numpy.typing import NDArray

SHARPNESS = 16.0
"""Length of a class's weights at the start. Embeddings have length 1, so that with weights of
length 1 the likeliest of 50 classes would get a twentieth of the probability."""


def nearest_centroid(
    embeddings: Floats, labels: NDArray[np.intp], classes: int
) -> dict[str, Floats]:
    """A head that picks the class whose mean embedding has the largest cosine."""
    centroids = np.zeros((classes, embeddings.shape[1]), embeddings.dtype)
    np.add.at(centroids, labels, embeddings)
    lengths = np.sqrt(np.square(centroids).sum(axis=1, keepdims=True))
    weight = SHARPNESS * centroids / np.where(lengths > 0, lengths, 1)
    return {"weight": weight, "bias": np.zeros(classes, embeddings.dtype)}


def logits(head: dict[str, Floats], embeddings: Floats) -> Floats:
    """Of the classes, (documents, classes)."""
    result: Floats = embeddings @ head["weight"].T + head["bias"]
    return result


def accuracy(head: dict[str, Floats], embeddings: Floats, labels: NDArray[np.intp]) -> float:
    """Share of documents whose likeliest class is theirs."""
    return float((logits(head, embeddings).argmax(axis=1) == labels).mean())


def loss_and_gradients(
    head: dict[str, Floats], embeddings: Floats, labels: NDArray[np.intp]
) -> tuple[float, dict[str, Floats], Floats]:
    """Mean cross-entropy, and its gradients with respect to the head and to the embeddings."""
    z = logits(head, embeddings)
    z -= z.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(z).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    loss = float((log_sum[:, 0] - z[rows, labels]).mean())
    slope = np.exp(z - log_sum)
    slope[rows, labels] -= 1
    slope /= len(labels)
    return (
        loss,
        {"weight": slope.T @ embeddings, "bias": slope.sum(axis=0)},
        slope @ head["weight"],
    )

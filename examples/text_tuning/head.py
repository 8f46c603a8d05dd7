"""The classifier of embeddings: softmax regression, initialised at the class centroids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from layers import Floats
    from numpy.typing import NDArray

SHARPNESS = 16.0
"""Initial length of a class's weights. Embeddings have length 1; with weights of length 1 too, the
likeliest of 50 classes would get a probability of only 1/20."""


def nearest_centroid(
    embeddings: Floats, labels: NDArray[np.intp], classes: int
) -> dict[str, Floats]:
    """A head that predicts the class whose mean embedding has the largest cosine."""
    centroids = np.zeros((classes, embeddings.shape[1]), embeddings.dtype)
    np.add.at(centroids, labels, embeddings)
    lengths = np.sqrt(np.square(centroids).sum(axis=1, keepdims=True))
    weight = SHARPNESS * centroids / np.where(lengths > 0, lengths, 1)
    return {"weight": weight, "bias": np.zeros(classes, embeddings.dtype)}


def logits(head: dict[str, Floats], embeddings: Floats) -> Floats:
    """Logits of shape (documents, classes)."""
    result: Floats = embeddings @ head["weight"].T + head["bias"]
    return result


def accuracy(head: dict[str, Floats], embeddings: Floats, labels: NDArray[np.intp]) -> float:
    """Share of documents whose likeliest class is their label."""
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

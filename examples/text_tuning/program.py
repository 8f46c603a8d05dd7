"""The example from texts to three accuracies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import display
import head
import lora
import minilm
import numpy as np
import training

if TYPE_CHECKING:
    from reuters import Corpus


@dataclass(frozen=True)
class Results:
    """Accuracies on documents that were not trained on."""

    centroid: float
    """Accuracy of frozen embeddings and the nearest class mean."""
    head: float
    """Accuracy of frozen embeddings and a trained head."""
    lora: float
    """Accuracy of embeddings and a head that were trained together."""


def run(
    train: Corpus, test: Corpus, classes: int, *, tokens: int, steps: int, rank: int, seed: int
) -> Results:
    """Score frozen embeddings, train a head on them, tune both together; print the accuracies.

    All three use the same documents, and both runs start at the nearest centroid.
    """
    generator = np.random.default_rng(seed)
    weights = minilm.read_weights()
    below = minilm.LAYERS - 1
    with display.bars() as shown:
        kept, kept_for_test = (
            minilm.states(
                weights,
                minilm.tokenize(part.texts, tokens),
                below,
                display.counting_bar(shown, what, len(part)),
            )
            for part, what in ((train, "to train on"), (test, "to test on"))
        )
    params: dict[str, Any] = {
        "layer": minilm.layer_weights(weights, below),
        "lora": lora.initial(rank, kept[0].shape[1], generator),
    }
    embeddings, for_test = lora.embed_all(params, kept), lora.embed_all(params, kept_for_test)
    start = head.nearest_centroid(embeddings, train.labels, classes)
    centroid = head.accuracy(start, for_test, test.labels)

    params["head"] = {name: array.copy() for name, array in start.items()}
    first = training.train_head(params, embeddings, train.labels, generator)
    alone = head.accuracy(params["head"], for_test, test.labels)

    params["head"] = start
    with display.bars() as shown:
        done = display.steps_bar(shown, steps)
        second = training.train_head_and_lora(
            params, kept, train.labels, generator, steps=steps, done=done
        )
    for_test = lora.embed_all(params, kept_for_test)
    tuned = head.accuracy(params["head"], for_test, test.labels)

    display.print_results(
        [
            ("frozen, nearest centroid", centroid, None),
            ("frozen, head trained", alone, first),
            (f"LoRA of rank {rank} and head", tuned, second),
        ]
    )
    return Results(centroid, alone, tuned)

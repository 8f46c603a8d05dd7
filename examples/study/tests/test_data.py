"""The study's data: pictures to test on that nothing else sees, and splits that seeds repeat."""

from __future__ import annotations

import socket
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest

from thalweg_study.data import DATA, TESTING, Samples, Split, load

if TYPE_CHECKING:
    from thalweg_study.models import Floats

every_data = pytest.mark.parametrize("name", DATA)

Row = tuple[bytes, int]
"""A picture as the data set has it, and its label; no two pictures of a set are the same."""


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the data come inside packages, nothing is fetched")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@cache
def everything(name: str) -> Samples:
    return Samples(*DATA[name]())


def row(picture: Floats, label: int) -> Row:
    return np.rint(picture).astype(np.uint8).tobytes(), int(label)


def rows(name: str, split: Split) -> dict[str, list[Row]]:
    """Undo the standardisation: darkest and brightest of all pixels are the same in all splits."""
    parts = vars(split)
    darkest = min(samples.pictures.min() for samples in parts.values())
    brightest = max(samples.pictures.max() for samples in parts.values())
    scale = everything(name).pictures.max() / (brightest - darkest)
    return {
        part: list(map(row, (samples.pictures - darkest) * scale, samples.labels))
        for part, samples in parts.items()
    }


@every_data
@pytest.mark.parametrize(("size", "seed"), [(300, 0), (300, 1), (40, 7)])
def test_every_picture_is_in_one_part_with_its_label(name: str, size: int, seed: int) -> None:
    parts = rows(name, load(name, size, seed))
    assert len(parts["train"]) == size
    expected = Counter(map(row, everything(name).pictures, everything(name).labels))
    assert max(expected.values()) == 1
    assert Counter(one for part in parts.values() for one in part) == expected


@every_data
def test_tests_see_the_same_pictures_whatever_the_seed_and_size(name: str) -> None:
    test = rows(name, load(name, 300, 0))["test"]
    assert len(test) == round(TESTING * len(everything(name).labels))
    for size, seed in [(300, 1), (500, 0), (20, 2)]:
        assert rows(name, load(name, size, seed))["test"] == test


@every_data
def test_every_part_has_its_share_of_every_digit(name: str) -> None:
    labels = everything(name).labels
    shares = np.bincount(labels) / len(labels)
    for samples in vars(load(name, 300, 3)).values():
        counts = np.bincount(samples.labels)
        np.testing.assert_allclose(counts, shares * len(samples.labels), atol=1.5)


@every_data
def test_a_seed_repeats_its_split_and_another_has_another(name: str) -> None:
    first = rows(name, load(name, 300, 5))
    assert rows(name, load(name, 300, 5)) == first
    other = rows(name, load(name, 300, 6))
    assert set(other["train"]) != set(first["train"])
    assert set(other["validation"]) != set(first["validation"])


@every_data
def test_pictures_are_standardised_by_those_to_train_on(name: str) -> None:
    split = load(name, 300, 4)
    for samples in vars(split).values():
        assert samples.pictures.dtype == np.float32
        assert samples.pictures.shape[1:] == everything(name).pictures.shape[1:]
    pictures = split.train.pictures.astype(np.float64)
    assert pictures.mean() == pytest.approx(0, abs=1e-6)
    assert pictures.std() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (0, "Got 0"),
        (9, "9 should be greater or equal to the number of classes = 10"),
        (980, "8 should be greater or equal to the number of classes = 10"),
        (2000, "2000 should be .* smaller than the number of samples 988"),
    ],
)
def test_a_size_that_leaves_a_part_without_some_digit_is_refused(size: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load("digits", size, 0)

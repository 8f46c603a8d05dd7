"""The program that tunes all weights of the text model: gradients, formats, and what it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from text_example import FOLDER, WEIGHTS, formats, full, head, minilm, tune_fully

from thalweg import compact, tree

SENTENCES = ["Wheat exports fell.", "The bank cut its rates by a quarter of a point.", "Oil rose."]


def as_float64(branch: Any) -> Any:
    if isinstance(branch, dict):
        return {name: as_float64(each) for name, each in branch.items()}
    if isinstance(branch, list):
        return [as_float64(each) for each in branch]
    return branch.astype(np.float64)


@pytest.fixture
def _two_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "LAYERS", 2)


def test_embeddings_are_those_of_the_frozen_model() -> None:
    documents = minilm.tokenize(SENTENCES, 32)
    means = [rows.mean(axis=0) for rows in minilm.states(WEIGHTS, documents, minilm.LAYERS)]
    expected = np.array(means) / np.linalg.norm(means, axis=1, keepdims=True)
    model = full.trainable(WEIGHTS, bfloat16=False)
    assert np.abs(full.embed_all(model, documents) - expected).max() < 1e-6
    assert np.abs(full.embed(model, *minilm.pad(documents)).embeddings - expected).max() < 1e-6
    rounded = full.trainable(WEIGHTS, bfloat16=True)
    assert np.abs(full.embed_all(rounded, documents) - expected).max() < 0.02


@pytest.mark.usefixtures("_two_layers")
def test_gradients_of_all_weights_equal_finite_differences_of_the_loss() -> None:
    generator = np.random.default_rng(0)
    model = as_float64(full.trainable(WEIGHTS, bfloat16=False))
    tokens, mask = minilm.pad(minilm.tokenize(SENTENCES, 16))
    assert not mask.all()
    classifier = {"weight": generator.standard_normal((3, 384)), "bias": np.ones(3)}
    labels = np.array([2, 0, 1])

    def loss() -> float:
        embeddings = full.embed(model, tokens, mask).embeddings
        return head.loss_and_gradients(classifier, embeddings, labels)[0]

    kept = full.embed(model, tokens, mask)
    below = head.loss_and_gradients(classifier, kept.embeddings, labels)[2]
    found = tree.flatten(full.gradients(model, kept, below))
    arrays = tree.flatten(model)
    assert found.keys() == arrays.keys()
    assert len(arrays) == 5 + 2 * 16
    for name, array in arrays.items():
        direction = generator.standard_normal(array.shape)
        array[...] += 1e-6 * direction
        above = loss()
        array[...] -= 2e-6 * direction
        slope = (above - loss()) / 2e-6
        array[...] += 1e-6 * direction
        assert (found[name] * direction).sum() == pytest.approx(slope, rel=1e-5, abs=1e-8), name


@pytest.mark.usefixtures("_two_layers")
def test_gradients_of_bfloat16_weights_are_the_nearest_bfloat16() -> None:
    rounded = full.trainable(WEIGHTS, bfloat16=True)
    exact = {name: compact.decode_bfloat16(a) for name, a in tree.flatten(rounded).items()}
    exact = tree.unflatten(exact, rounded)
    tokens, mask = minilm.pad(minilm.tokenize(SENTENCES, 16))
    found, expected = (
        tree.flatten(full.gradients(model, kept, np.ones_like(kept.embeddings)))
        for model in (rounded, exact)
        for kept in [full.embed(model, tokens, mask)]
    )
    for name, gradient in found.items():
        assert gradient.dtype == np.uint16
        assert np.array_equal(gradient, compact.encode_bfloat16(expected[name])), name


@pytest.mark.usefixtures("_two_layers")
@pytest.mark.parametrize("chosen", formats.FORMATS, ids=lambda each: each.label)
def test_a_run_trains_in_each_format(chosen: formats.Format) -> None:
    generator = np.random.default_rng(0)
    texts = ["wheat and corn", "the bank cut rates", "corn exports", "bank rates rose"] * 8
    labels = np.array([0, 1, 0, 1] * 8)
    documents = minilm.tokenize(texts, 8)
    start = {"weight": generator.standard_normal((2, 384), np.float32), "bias": np.zeros(2)}
    start["bias"] = start["bias"].astype(np.float32)
    task = formats.Task(
        documents=documents,
        labels=labels,
        scored=documents,
        scored_labels=labels,
        head=start,
        steps=6,
        rate=1e-3,
        seed=0,
    )
    run = formats.train(chosen, task)
    assert run.accuracy > 0.9
    assert len(run.step_seconds) == 6
    bytes_expected = {
        "float32": 16.0,
        "float32, compact state": 11.02,
        "bfloat16, compact state": 9.02,
        "the same without low": 7.02,
    }
    assert run.bytes_a_weight == pytest.approx(bytes_expected[chosen.label], abs=0.03)


@pytest.mark.slow
def test_the_program_prints_a_row_for_each_format() -> None:
    small = ["--documents", "100", "--steps", "2", "--seeds", "1", "--validate"]
    ended = subprocess.run(  # noqa: S603
        [sys.executable, str(FOLDER / "tune_fully.py"), *small],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    assert ended.stderr == ""
    assert "trained on 100 of 6,532 documents, scored on 100 other training" in ended.stdout
    for chosen in formats.FORMATS:
        row = re.search(rf"^ {chosen.label} +([\d.]+) +([\d.]+)%", ended.stdout, re.MULTILINE)
        assert row, chosen.label
        assert float(row[1]) > 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "0"], "argument --seeds: must be a whole number from 1 to 100, got '0'"),
        (["--rate", "1e-4"], "argument --rate: must be a whole number from 1 to 100000"),
        (["--documents", "7000"], "argument --documents: there are 6,532, got 7,000"),
    ],
)
def test_wrong_options_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        tune_fully.main(options)
    assert message in capsys.readouterr().err

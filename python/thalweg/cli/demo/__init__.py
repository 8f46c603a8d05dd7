"""``thalweg demo``: three optimizers train one NumPy network side by side.

This module holds only the options. ``session`` does the work; it is imported when the demo starts
because it needs the ``demo`` extra.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.arguments import integer, not_negative
from thalweg.cli.demo.recipes import RECIPES
from thalweg.cli.demo.schedules import DEFAULT, SCHEDULES
from thalweg.cli.errors import needs_extra
from thalweg.cli.output import picture_path

if TYPE_CHECKING:
    import argparse

SUMMARY = (
    "train a small NumPy network on handwritten digits with AdamW, Adam + L2 and SGD with momentum"
)
EXIT_CODES = (
    "Exit code: 0 if every run finished, 1 if a run stopped at a non-finite gradient (the table "
    "has its step), 2 if an option is wrong, the output cannot be written or the demo extra is "
    "missing."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the demo."""
    own_lr = ", ".join(f"{recipe.label} {recipe.lr:g}" for recipe in RECIPES.values())
    own_decay = ", ".join(f"{recipe.label} {recipe.decay:g}" for recipe in RECIPES.values())
    parser.epilog = EXIT_CODES
    parser.add_argument(
        "--optimizer",
        action="extend",
        nargs="+",
        choices=RECIPES,
        help="optimizers to compare (default: all)",
    )
    parser.add_argument(
        "--lr",
        type=not_negative,
        metavar="RATE",
        help=f"learning rate of every run, the peak of its schedule (default: {own_lr})",
    )
    parser.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default=DEFAULT,
        help="schedule of the learning rate (default: %(default)s)",
    )
    parser.add_argument(
        "--decay",
        type=not_negative,
        metavar="RATE",
        help=f"weight_decay of AdamW, l2 of Adam and SGD; biases have none (default: {own_decay})",
    )
    parser.add_argument(
        "--epochs",
        type=integer(1),
        metavar="N",
        default=40,
        help="passes over the training data (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=integer(1),
        metavar="N",
        default=32,
        help="digits per step (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=integer(0, 2**32 - 1),
        metavar="N",
        default=0,
        help="seed of the split, the weights and the batches (default: %(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=integer(1, 1024),
        metavar="N",
        help="threads of the optimizers (default: the number that `thalweg info` prints)",
    )
    parser.add_argument(
        "--output",
        type=picture_path,
        metavar="PATH",
        default=Path("thalweg-demo.png"),
        help="file of the picture, .png, .pdf or .svg (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; CommandError if its extra is missing."""
    with needs_extra("demo"):
        from thalweg.cli.demo import session  # noqa: PLC0415 - needs the extra
    return session.run(arguments)

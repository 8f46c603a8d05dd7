"""``thalweg bench``: how fast steps are, next to the memory limit, NumPy and other optimizers.

This file holds the options only; ``session`` does the work and is imported when it starts, since
it needs the ``bench`` extra.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.arguments import integer
from thalweg.cli.bench.cases import NAMES
from thalweg.cli.bench.contenders import CONTENDERS
from thalweg.cli.errors import needs_extra
from thalweg.cli.output import picture_path

if TYPE_CHECKING:
    import argparse

SUMMARY = (
    "compare steps with the memory limit, NumPy, and torch, DeepSpeed, torchao, bitsandbytes, "
    "optax and thinc if installed"
)
EXIT_CODES = (
    "Exit code: 0 if the results of thalweg equal thalweg.reference, 1 if one does not (it is "
    "not timed), 2 if an option is wrong, memory is too small, the output cannot be written or "
    "the bench extra is missing."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the benchmark."""
    parser.epilog = EXIT_CODES
    parser.add_argument(
        "--quick",
        action="store_true",
        help="use a smaller large tensor and fewer rounds: seconds instead of minutes",
    )
    parser.add_argument(
        "--cases",
        action="extend",
        nargs="+",
        choices=NAMES,
        metavar="NAME",
        help=f"models to measure: {', '.join(NAMES)} (default: all)",
    )
    parser.add_argument(
        "--contenders",
        action="extend",
        nargs="+",
        choices=CONTENDERS,
        metavar="NAME",
        help=f"optimizers to measure: {', '.join(CONTENDERS)} (default: all that are installed)",
    )
    parser.add_argument(
        "--elements",
        type=integer(1),
        metavar="N",
        help=(
            "elements of the large tensor (default: 67,108,864, or 4,194,304 with --quick; "
            "fewer if they need more than half of the available memory)"
        ),
    )
    parser.add_argument(
        "--rounds",
        type=integer(1),
        metavar="N",
        help=(
            "rounds per case (default: as many as its time allows, 15 to 51, or 3 to 11 with "
            "--quick)"
        ),
    )
    parser.add_argument(
        "--threads",
        type=integer(1, 1024),
        metavar="N",
        help=(
            "threads of thalweg and torch (default: the number that `thalweg info` prints); "
            "optax uses all CPUs"
        ),
    )
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="save facts about the machine and all samples"
    )
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="save the tables as Markdown")
    parser.add_argument(
        "--plot", type=picture_path, metavar="PATH", help="save a picture, in .png, .pdf or .svg"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark, or say which extra it needs."""
    with needs_extra("bench"):
        from thalweg.cli.bench import session  # noqa: PLC0415 - it imports the extra
    return session.run(arguments)

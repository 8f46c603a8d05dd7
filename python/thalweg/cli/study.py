"""``thalweg study``: what the sources of AdamW claim, tried out and judged.

This file holds the options only; ``thalweg.study.session`` does the work and is imported when it
starts, since it needs the ``study`` extra.
"""

from __future__ import annotations

import argparse
import difflib
import textwrap
from pathlib import Path

from thalweg.cli.arguments import integer
from thalweg.cli.errors import CommandError, needs_extra
from thalweg.study.errors import StudyError
from thalweg.study.names import SUMMARIES

SUMMARY = "reproduce what the sources of AdamW claim, with verdicts, pictures and a report"
DATA = ("digits", "mnist5k")
EXIT_CODES = (
    "Exit code: 0 if the study is finished, whatever its verdicts, 2 if the options are wrong, the "
    "output cannot be written, the study extra is missing or the study cannot go on, 130 after "
    "Ctrl-C. Every finished run is kept in the directory at once: the same command goes on from "
    "there."
)
WIDTH = 80


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the study."""
    claims = "\n".join(f"  {name:<16}  {summary}" for name, summary in SUMMARIES.items())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"claims:\n{claims}\n\n{textwrap.fill(EXIT_CODES, WIDTH)}"
    parser.add_argument(
        "claims",
        nargs="*",
        type=_claim,
        metavar="CLAIM",
        help="which claims to study, see below (default: all)",
    )
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument(
        "--quick", action="store_true", help="about two minutes on two CPUs (the default)"
    )
    scale.add_argument(
        "--full", action="store_true", help="more seeds and finer grids, for up to an hour"
    )
    parser.add_argument(
        "--data",
        choices=DATA,
        default=DATA[0],
        help="pictures of handwritten digits, 8 by 8 or 28 by 28 pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--jobs",
        type=integer(1, 1024),
        metavar="N",
        help="processes; numbers do not depend on it (default: CPUs that this one may use)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path("thalweg-study"),
        help="the directory of the report and of all runs; one that is there is gone on with "
        "(default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the study, or say which extra it needs."""
    with needs_extra("study"):
        from joblib import cpu_count  # noqa: PLC0415 - comes with the extra

        from thalweg.study import data, session  # noqa: PLC0415 - they import the extra

        data.DATA[arguments.data]()
    order = session.Order(
        claims=tuple(name for name in SUMMARIES if name in arguments.claims),
        data=arguments.data,
        thorough=arguments.full,
        jobs=arguments.jobs or cpu_count(),
        out=arguments.out,
    )
    try:
        return session.run(order)
    except StudyError as error:
        raise CommandError(str(error)) from error


def _claim(text: str) -> str:
    """Convert to the name of a claim, for argparse."""
    if text in SUMMARIES:
        return text
    near = difflib.get_close_matches(text.lower().replace("_", "-"), SUMMARIES, 1, 0.5)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    raise argparse.ArgumentTypeError(
        f"{text!r} is no claim{guess}; claims are {', '.join(SUMMARIES)}"
    )

"""The command ``thalweg-study``: its options, and how it ends."""

from __future__ import annotations

import argparse
import difflib
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from joblib import cpu_count

from thalweg_study import session
from thalweg_study.claims import CLAIMS
from thalweg_study.data import DATA
from thalweg_study.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_CODES = (
    "Exit code: 0 if the study is finished, whatever its verdicts, 2 if the options are wrong, the "
    "output cannot be written or the study cannot continue, 130 after Ctrl-C. Every finished run "
    "is kept in the directory at once: the same command continues from there."
)
MOST_JOBS = 1024
WIDTH = 80


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return session.run(_order(arguments))
    except StudyError as error:
        print(f"thalweg-study: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return session.INTERRUPTED


def _order(arguments: argparse.Namespace) -> session.Order:
    return session.Order(
        claims=tuple(name for name in CLAIMS if name in arguments.claims),
        data=arguments.data,
        thorough=arguments.full,
        jobs=arguments.jobs or cpu_count(),
        out=arguments.out,
    )


def _parser() -> argparse.ArgumentParser:
    claims = "\n".join(f"  {name:<16}  {claim.SUMMARY}" for name, claim in CLAIMS.items())
    parser = argparse.ArgumentParser(
        prog="thalweg-study",
        description="reproduce what the sources of AdamW claim, with verdicts, pictures and a "
        "report",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"claims:\n{claims}\n\n{textwrap.fill(EXIT_CODES, WIDTH)}",
    )
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
        default="digits",
        help="pictures of handwritten digits, 8 by 8 or 28 by 28 pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--jobs",
        type=_jobs,
        metavar="N",
        help="processes; numbers do not depend on it (default: CPUs that this one may use)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path("thalweg-study"),
        help="the directory of the report and of all runs; a study in it is continued "
        "(default: %(default)s)",
    )
    return parser


def _claim(text: str) -> str:
    """Convert to the name of a claim, for argparse."""
    if text in CLAIMS:
        return text
    near = difflib.get_close_matches(text.lower().replace("_", "-"), CLAIMS, 1, 0.5)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    raise argparse.ArgumentTypeError(f"{text!r} is no claim{guess}; claims are {', '.join(CLAIMS)}")


def _jobs(text: str) -> int:
    """Convert to a number of processes, for argparse."""
    if text.isdecimal() and 1 <= int(text) <= MOST_JOBS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 1 to {MOST_JOBS}")


if __name__ == "__main__":
    sys.exit(main())

"""``thalweg inspect``: the content of a checkpoint file, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.errors import CommandError
from thalweg.cli.inspect.contents import opened
from thalweg.cli.inspect.head import head
from thalweg.cli.inspect.table import aligned, show
from thalweg.cli.inspect.tensors import others, parameters

if TYPE_CHECKING:
    import argparse

SUMMARY = "show the contents of a checkpoint: rule, groups, and the norms of its arrays"
EXIT_CODES = (
    "Exit code: 0 if everything was shown, 2 if the file cannot be read, is not a checkpoint or "
    "has a damaged header; with --verify also, with no output, if any other part is damaged."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = EXIT_CODES
    parser.add_argument("file", type=Path, metavar="FILE", help="file that opt.save wrote")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="check the checksum of the whole file first (default: check the header only)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the head, then the tables; their norms require a read of the whole file."""
    try:
        with opened(arguments.file, verify=arguments.verify) as contents:
            show(aligned(head(contents)))
            for table in (parameters(contents), others(contents)):
                if table:
                    numbers = range(table[0].index("elements"), len(table[0]))
                    show(["", *aligned(table, numbers)])
    except BrokenPipeError:
        raise
    except OSError as error:
        said = error.strerror or str(error)
        raise CommandError(f"{error.filename or arguments.file}: {said}") from error
    except ValueError as error:
        raise CommandError(str(error)) from error
    return 0

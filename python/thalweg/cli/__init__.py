"""The ``thalweg`` command: one module per subcommand, listed in one table.

Subcommands import their dependencies when they run, so that ``thalweg info`` is fast and works
without the extras.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Protocol

import thalweg
from thalweg.cli import bench, demo, info, inspect
from thalweg.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Subcommand(Protocol):
    """The interface of a module that is a subcommand."""

    SUMMARY: str

    def configure(self, parser: argparse.ArgumentParser, /) -> None:
        """Add the subcommand's options."""

    def run(self, arguments: argparse.Namespace, /) -> int:
        """Do the work and return the exit code."""


SUBCOMMANDS: dict[str, Subcommand] = {
    "bench": bench,
    "demo": demo,
    "info": info,
    "inspect": inspect,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``thalweg`` command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the command's name; those of the process if not given.

    Returns
    -------
    int
        The exit code: 0 for success, 1 if the reader closes the output, 2 for a request that cannot
        be carried out, 130 after Ctrl-C. The help of a subcommand lists further codes.

    Raises
    ------
    SystemExit
        From argparse, with code 2 for wrong arguments and 0 after ``--help`` or ``--version``.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        code = SUBCOMMANDS[arguments.command].run(arguments)
        sys.stdout.flush()
    except CommandError as error:
        print(f"thalweg {arguments.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has ended; buffered output must not raise another error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="thalweg", description="AdamW for NumPy, updated in place by a Rust core."
    )
    parser.add_argument("--version", action="version", version=f"thalweg {thalweg.__version__}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    for name, subcommand in SUBCOMMANDS.items():
        summary = subcommand.SUMMARY
        subcommand.configure(commands.add_parser(name, help=summary, description=summary))
    return parser

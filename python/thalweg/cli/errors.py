"""The one way a subcommand gives up: a line for stderr and exit code 2."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class CommandError(Exception):
    """A request that cannot be carried out; the message is for the user, without a traceback."""


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn the failed import of an optional dependency into the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module in {"", "thalweg"}:
            raise
        raise CommandError(
            f"the module {module!r} is missing; pip install 'thalweg[{extra}]'"
        ) from error

"""The failure of a subcommand: one line on stderr and exit code 2."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class CommandError(Exception):
    """A request that cannot be carried out; the user sees the message without a traceback."""


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

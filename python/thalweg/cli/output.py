"""Output files: a path that cannot be written is refused before the work."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMATS = (".png", ".pdf", ".svg")


def picture_path(text: str) -> Path:
    """Convert to a path whose ending names a picture format, for argparse."""
    path = Path(text)
    if path.suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(
            f"must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, got {text!r}"
        )
    return path


def check_writable(path: Path) -> None:
    """Raise `CommandError` if no file can be written at ``path``."""
    if path.is_dir():
        raise CommandError(f"cannot write {str(path)!r}: it is a directory")
    with writing(path):
        # Permission bits do not show read-only mounts or full disks; an attempt does.
        tempfile.TemporaryFile(dir=path.parent).close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into a `CommandError` that names ``path``."""
    try:
        yield
    except OSError as error:
        raise CommandError(f"cannot write {str(path)!r}: {error.strerror}") from error

"""Names as paths that are safe on every file system, and back."""

from __future__ import annotations

import re

__all__ = ["quoted", "unquoted"]

LONGEST = 160
"""Characters in one part of a file name; systems allow 255, and something comes behind it."""
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


def quoted(name: str) -> str:
    """A name as a path that is safe on every file system, also where case makes no difference.

    Lower-case letters, digits, ``_``, ``-`` and dots stay; other bytes of UTF-8 are ``%`` and two
    digits, as are a dot at the beginning and the first letter of what Windows reserves. Long names
    are cut into directories that end in ``~``. `unquoted` is the way back.
    """
    text = re.sub(rb"[^a-z0-9_.-]", lambda found: b"%%%02x" % found[0][0], name.encode()).decode()
    if not text:
        return "%"
    if text[0] == "." or RESERVED.match(text):
        text = f"%{ord(text[0]):02x}{text[1:]}"
    return "~/".join(text[at : at + LONGEST] for at in range(0, len(text), LONGEST))


def unquoted(path: str) -> str:
    """The name that became this path."""
    text = path.replace("~/", "")
    if text == "%":
        return ""
    return re.sub(rb"%(..)", lambda found: bytes([int(found[1], 16)]), text.encode()).decode()

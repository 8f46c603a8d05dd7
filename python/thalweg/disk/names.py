"""Conversion of names to paths that are valid on every file system, and back."""

from __future__ import annotations

import re

__all__ = ["quoted", "unquoted"]

LONGEST = 160
"""Characters in one part of a path. Systems allow 255, including the suffix added later."""
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


def quoted(name: str) -> str:
    """A name as a path that is valid on every file system, including case-insensitive ones.

    Lower-case letters, digits, ``_``, ``-`` and dots stay. Other bytes of UTF-8 become ``%`` and
    two hexadecimal digits, as do a leading dot and the first letter of a name that Windows
    reserves. Long names are split into directories that end in ``~``. `unquoted` is the inverse.
    """
    text = re.sub(rb"[^a-z0-9_.-]", lambda found: b"%%%02x" % found[0][0], name.encode()).decode()
    if not text:
        return "%"
    if text[0] == "." or RESERVED.match(text):
        text = f"%{ord(text[0]):02x}{text[1:]}"
    return "~/".join(text[at : at + LONGEST] for at in range(0, len(text), LONGEST))


def unquoted(path: str) -> str:
    """The name of a path made by `quoted`."""
    text = path.replace("~/", "")
    if text == "%":
        return ""
    return re.sub(rb"%(..)", lambda found: bytes([int(found[1], 16)]), text.encode()).decode()

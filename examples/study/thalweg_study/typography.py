"""Numbers as a reader knows them: with a minus sign, and powers of ten instead of an ``e``."""

from __future__ import annotations

import re

MINUS = re.compile(r"(?<![\w)])-(?=[\d.])")
EXPONENT = re.compile(r"(?<=\d)e([+-]?)0*(\d+)\b")
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def typeset(text: str) -> str:
    """Return a text with its numbers typeset; those that programs read stay as they are."""
    return EXPONENT.sub(_power, MINUS.sub("\N{MINUS SIGN}", text))


def _power(found: re.Match[str]) -> str:
    sign, digits = found.groups()
    minus = "\N{SUPERSCRIPT MINUS}" if sign == "-" else ""
    return "" if digits == "0" else f"·10{minus}{digits.translate(RAISED)}"

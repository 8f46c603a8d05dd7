"""The page as text; ``page.html`` says where each part of the findings is shown."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined

from thalweg_study.claim import Outcome
from thalweg_study.typography import typeset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Template

    from thalweg_study.claim import Table
    from thalweg_study.findings import Findings
    from thalweg_study.report.pictures import Rendered

SIGNS: dict[Outcome, str] = {"holds": "✓", "does not hold": "✗", "undecided": "?"}
"""Beside the word and the colour of an outcome, for readers who do not see the colour."""

NUMBER = re.compile(r"\W*\d[^a-df-z]*(to [^a-df-z]*)?\w{0,3}|\W*", re.IGNORECASE)
"""A number, perhaps with an exponent, an interval and a short unit; or a dash for none."""


def compose(findings: Findings, pictures: Mapping[str, Rendered]) -> str:
    """Write the page; ``pictures`` has all of the findings by name."""
    outcomes = Counter(
        verdict.outcome for _, chapter in findings.chapters for verdict in chapter.verdicts
    )
    return _template().render(
        findings=findings,
        pictures=pictures,
        signs=SIGNS,
        counts=[(outcome, outcomes[outcome]) for outcome in get_args(Outcome)],
        numeric=numeric,
        paragraphs=paragraphs,
    )


def numeric(table: Table) -> list[bool]:
    """Tell for each column whether it holds numbers, which are aligned to the right."""
    return [
        all(NUMBER.fullmatch(row[i].strip()) for row in table.rows)
        for i in range(len(table.columns))
    ]


def paragraphs(text: str) -> list[str]:
    """Split a text at its blank lines."""
    return [part for part in re.split(r"\n\s*\n", text) if part.strip()]


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("thalweg_study.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typeset"] = typeset
    return environment.get_template("page.html")

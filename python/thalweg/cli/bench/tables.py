"""The numbers of a case as rows of text, for the terminal and for Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg.cli.bench.limit import FLOAT32_ADAMW

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thalweg.cli.bench.contenders import Contender
    from thalweg.cli.bench.results import CaseResult, Samples
    from thalweg.cli.bench.rounds import Series

HEADINGS = (
    "optimizer",
    "least bytes",
    "median step",
    "best step",
    "GB/s",
    "of limit",
    "best of limit",
    "of 28 bytes",
    "x thalweg",
    "rounds",
)
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def format_time(seconds: float) -> str:
    """Return three digits and a unit."""
    size, unit = unit_of(seconds)
    return f"{three_digits(seconds / size)} {unit}"


def unit_of(seconds: float) -> tuple[float, str]:
    """Return the unit to write a time in, in seconds and by name."""
    return next((unit for unit in UNITS if seconds >= 0.9995 * unit[0]), UNITS[-1])


def three_digits(value: float) -> str:
    """Return a number above 0.01 without exponent, rounded to three digits."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def rows(samples: Samples, elements: int) -> list[tuple[str, ...]]:
    """Return a row for the memory limit of AdamW in float32, and one for each that was timed."""
    if not samples.series:
        return []
    return [_limit_row(samples, elements), *(_row(samples, elements, c) for c in samples.series)]


def titled(result: CaseResult) -> dict[str, Samples]:
    """Return the samples of a case under the titles of their tables."""
    title = result.case.title
    return {f"{title}, in a loop": result.loop, f"{title}, repeated": result.repeated}


def markdown(results: Iterable[CaseResult]) -> str:
    """Return two tables for each case."""
    return "\n".join(
        _markdown_table(title, rows(samples, result.case.elements))
        for result in results
        for title, samples in titled(result).items()
    )


def _limit_row(samples: Samples, elements: int) -> tuple[str, ...]:
    traffic, series = FLOAT32_ADAMW, samples.limits[FLOAT32_ADAMW]
    return (
        "memory limit, float32",
        f"{traffic.moved_bytes:.4g}",
        format_time(series.median),
        format_time(series.best),
        _rate(traffic.moved_bytes * elements, series),
        "1",
        "1",
        "1",
        "",
        str(len(series.seconds)),
    )


def _row(samples: Samples, elements: int, contender: Contender) -> tuple[str, ...]:
    series, traffic = samples.series[contender], samples.traffics[contender]
    of_baseline = samples.of_baseline(contender)
    return (
        contender.label,
        f"{traffic.moved_bytes:.4g}",
        format_time(series.median),
        format_time(series.best),
        _rate(contender.moved_bytes(traffic) * elements, series),
        _share(samples.of_limit(contender)),
        _share(samples.best_of_limit(contender)),
        _share(samples.of_float32(contender)),
        "" if of_baseline is None else three_digits(of_baseline),
        str(len(series.seconds)),
    )


def _rate(moved_bytes: float, series: Series) -> str:
    """Return GB a second."""
    return f"{moved_bytes / series.median / 1e9:.1f}"


def _share(ratio: float) -> str:
    if ratio < 0.001:
        return "<0.001"
    return f"{ratio:.2f}" if ratio >= 0.0995 else f"{ratio:.3f}"


def _markdown_table(title: str, cells: Iterable[tuple[str, ...]]) -> str:
    alignment = ("---", *["---:"] * (len(HEADINGS) - 1))
    lines = ["| " + " | ".join(row) + " |" for row in (HEADINGS, alignment, *cells)]
    return "\n".join([f"### {title}\n", *lines, ""])

"""The numbers of a case as rows of text, for the terminal and for Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg.cli.bench.limit import Traffic

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thalweg.cli.bench.contenders import Contender
    from thalweg.cli.bench.results import CaseResult

HEADINGS = (
    "optimizer",
    "median step",
    "best step",
    "GB/s",
    "of limit",
    "best of limit",
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


def rows(result: CaseResult) -> list[tuple[str, ...]]:
    """Return a row for the memory limit of the first contender, and one for each that was timed."""
    if not result.series:
        return []
    return [_limit_row(result), *(_row(result, contender) for contender in result.series)]


def markdown(results: Iterable[CaseResult]) -> str:
    """Return a table for each case."""
    return "\n".join(_markdown_table(result) for result in results)


def _limit_row(result: CaseResult) -> tuple[str, ...]:
    traffic, series = next(
        (key, series) for key, series in result.limits.items() if isinstance(key, Traffic)
    )
    bandwidth = traffic.moved_bytes * result.case.elements / series.median
    return (
        f"memory limit, {traffic.moved_bytes} bytes",
        format_time(series.median),
        format_time(series.best),
        f"{bandwidth / 1e9:.1f}",
        "1",
        "1",
        "",
        str(len(series.seconds)),
    )


def _row(result: CaseResult, contender: Contender) -> tuple[str, ...]:
    series = result.series[contender]
    of_baseline = result.of_baseline(contender)
    return (
        contender.label,
        format_time(series.median),
        format_time(series.best),
        f"{result.bandwidth(contender) / 1e9:.1f}",
        _share(result.of_limit(contender)),
        _share(result.best_of_limit(contender)),
        "" if of_baseline is None else three_digits(of_baseline),
        str(len(series.seconds)),
    )


def _share(ratio: float) -> str:
    if ratio < 0.001:
        return "<0.001"
    return f"{ratio:.2f}" if ratio >= 0.0995 else f"{ratio:.3f}"


def _markdown_table(result: CaseResult) -> str:
    alignment = ("---", *["---:"] * (len(HEADINGS) - 1))
    lines = ["| " + " | ".join(cells) + " |" for cells in (HEADINGS, alignment, *rows(result))]
    return "\n".join([f"### {result.case.title}\n", *lines, ""])

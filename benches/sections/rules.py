"""The promise of the memory limit: one large tensor, each rule against a loop of its traffic."""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from limit import Limit, Traffic, of_limit
from subjects import ADAMW, AMSGRAD, MOMENTUM_SGD, PLAIN_SGD, Array, Rule, filled
from tables import Table
from timing import Timed, interleaved

if TYPE_CHECKING:
    from sections import Options

TITLE = "one large tensor; speed relative to the memory limit of the same traffic"
ELEMENTS = 64 << 20


class Case(NamedTuple):
    """A rule and how it treats gradients."""

    rule: Rule
    nonfinite: str = "ignore"
    max_norm: float | None = None

    @property
    def traffic(self) -> Traffic:
        """What is moved; to look at a gradient before anything is written is to read it twice."""
        looks = self.nonfinite != "ignore" or self.max_norm is not None
        return Traffic(1 + self.rule.states, 2 if looks else 1)


CASES = {
    "float32": {
        "AdamW, ignore": Case(ADAMW),
        "AdamW, default": Case(ADAMW, "raise"),
        "AdamW, default, max_norm": Case(ADAMW, "raise", 1.0),
        "AMSGrad, ignore": Case(AMSGRAD),
        "SGD momentum, ignore": Case(MOMENTUM_SGD),
        "SGD, ignore": Case(PLAIN_SGD),
    },
    "float64": {"AdamW, ignore": Case(ADAMW)},
}


def _step(case: Case, p: Array, g: Array) -> Timed:
    opt = case.rule.make(p, nonfinite=case.nonfinite)
    return Timed(partial(opt.step, g, max_norm=case.max_norm))


def _measure(dtype: str, elements: int, rounds: int) -> None:
    # Optimizers that take turns can share a parameter; the state of each is enough memory.
    p, g, cases = filled(elements, dtype), filled(elements, dtype, 0.01), CASES[dtype]
    updated = {case.traffic.updated for case in cases.values()}
    limit = Limit(elements, dtype, max(updated))
    timed: dict[str | int, Timed] = {name: _step(case, p, g) for name, case in cases.items()}
    timed |= {count: limit.of(count) for count in updated}
    times = interleaved(timed, rounds)
    table = Table(f"{elements:,} {dtype}", "bytes", "ms", "GB/s", "of limit", "at best")
    for name, case in cases.items():
        own, base, traffic = times[name], times[case.traffic.updated], case.traffic
        size, ns = traffic.passes * p.itemsize, median(own)
        relative = of_limit(traffic, own, base), of_limit(traffic, [min(own)], [min(base)])
        table.row(name, size, ns / 1e6, size * elements / ns, *relative)
    print()


def run(options: Options) -> None:
    """Measure one type after the other: both at once would take too much memory."""
    for dtype in CASES:
        elements = options.elements or options.pick(ELEMENTS, 4_096)
        _measure(dtype, elements, options.rounds_or(11))

"""The sections of `steps.py`, one a module, and the options that they are given."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from thalweg.cli.bench.display import print_result
from thalweg.cli.bench.measure import measure
from thalweg.cli.bench.rounds import FULL, Effort

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thalweg.cli.bench.cases import Case
    from thalweg.cli.bench.contenders import Contender

T = TypeVar("T")

TINY = Effort(0.0, 2, 2, sample_seconds=1e-4)


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    tiny: bool
    rounds: int | None
    elements: int | None

    def pick(self, full: T, tiny: T) -> T:
        """Return `full`, or `tiny` in a tiny run."""
        return tiny if self.tiny else full

    def rounds_or(self, usual: int) -> int:
        """Return the number of samples: `usual` unless the command line sets another."""
        return self.rounds or self.pick(usual, 2)

    @property
    def effort(self) -> Effort:
        """The effort for a case, as in `thalweg bench`."""
        return self.pick(FULL, TINY).limited(self.rounds)


class Section(Protocol):
    """The interface of a module that is a section."""

    TITLE: str

    def run(self, options: Options, /) -> None:
        """Measure and print."""


def compare(case: Case, contenders: Sequence[Contender], effort: Effort) -> None:
    """Print the table of a case; end the benchmark if a contender failed its check."""
    result = measure(case, contenders, effort)
    print_result(result)
    if result.failed:
        sys.exit(1)

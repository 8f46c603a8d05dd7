"""The sections of `steps.py`, one a module, and what they are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    tiny: bool
    rounds: int | None
    elements: int | None

    def pick(self, full: T, tiny: T) -> T:
        """Return the size that this run is to have."""
        return tiny if self.tiny else full

    def rounds_or(self, usual: int) -> int:
        """Return how many samples to take, which is `usual` unless the command line says else."""
        return self.rounds or self.pick(usual, 2)


class Section(Protocol):
    """What a module must offer to be a section."""

    TITLE: str

    def run(self, options: Options, /) -> None:
        """Measure and print."""

"""The interface of contenders to the check and to the clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalweg.cli.bench.formulas import Array, Arrays


@dataclass(frozen=True)
class Step:
    """One step, ready to be taken any number of times with the same gradients."""

    run: Callable[[], Any]
    """The call that is timed."""
    prepare: Callable[[], Any] | None = None
    """Called before each run, outside the time."""
    settle: Callable[[], Any] | None = None
    """Called before each sample, outside the time."""
    turns: int = 1
    """Steps in one run."""

    def after(self, work: Callable[[], Any]) -> Step:
        """Return the step with `work` before each run."""
        before = self.prepare

        def prepare() -> None:
            if before is not None:
                before()
            work()

        return replace(self, prepare=prepare)


class Stepper(Protocol):
    """An optimizer and the parameters that it owns."""

    def bind(self, grads: Arrays) -> Step:
        """Hand over gradients, as a backward pass would leave them."""

    def parameters(self) -> Arrays:
        """Return the parameters as they are now, as float32 or float64 with every digit."""

    def written(self) -> dict[str, list[Array]]:
        """Return the arrays that a step writes, after one; nothing if NumPy cannot write them."""

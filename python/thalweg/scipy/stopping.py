"""The conditions that end a run, with their status and message."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from thalweg.scipy.options import Settings


class Ending(NamedTuple):
    """An ending of a run; `status` 0 is success. The numbers are those of SciPy's BFGS."""

    status: int
    message: str


GRADIENT = Ending(0, "Converged: the largest element of the (projected) gradient is within gtol.")
MAXITER = Ending(1, "The maximum number of iterations was reached.")
NO_PROGRESS = Ending(
    2,
    "No progress: for n_iter_no_change iterations the objective fell by no more than ftol, before "
    "gtol was met.",
)
NOT_FINITE = Ending(3, "The objective or its gradient is not finite.")
OVERFLOW = Ending(3, "The gradient is too large: its square overflows.")
NO_SAMPLE = Ending(3, "None of n_iter_no_change consecutive samples could be used.")
HALTED = Ending(99, "`callback` raised `StopIteration`.")


class Stopping:
    """The tests after every iteration.

    Only the gradient shows that a run has converged. An objective that no longer falls does not:
    the learning rate may be too small or too large.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lowest = 0.0
        self._since = 0

    def test(self, nit: int, value: float, slope: float) -> Ending | None:
        """The ending of the run at iteration `nit`, with this objective and slope, or None."""
        gtol, ftol = self._settings.gtol, self._settings.ftol
        if gtol is not None and slope <= gtol:
            return GRADIENT
        if ftol is not None and not self._progress(nit, value, ftol):
            return NO_PROGRESS
        return MAXITER if nit >= self._settings.maxiter else None

    def _progress(self, nit: int, value: float, ftol: float) -> bool:
        # The reference value changes only on progress, so that many small improvements add up.
        if nit == 0 or value < self._lowest - ftol * max(1.0, abs(self._lowest)):
            self._lowest = value
            self._since = nit
        return nit - self._since < self._settings.n_iter_no_change

"""The one loop of all methods."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import OptimizeResult

from thalweg.scipy.box import Box, make_box, start
from thalweg.scipy.callbacks import make_callback
from thalweg.scipy.objective import Objective, Problem, make_objective
from thalweg.scipy.options import make_settings
from thalweg.scipy.stopping import GRADIENT, HALTED, NOT_FINITE, OVERFLOW, Ending, Stopping

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from thalweg.base import Optimizer
    from thalweg.scipy.options import Settings


def solve(
    optimizer: type[Optimizer],
    hyperparameters: Mapping[str, Any],
    problem: Problem,
    options: Mapping[str, Any],
) -> OptimizeResult:
    """Minimize with an optimizer class; everything is checked before `fun` is called."""
    settings = make_settings(optimizer.rule, hyperparameters, options)
    x = start(problem.x0)
    box = make_box(problem.bounds, x.size)
    objective = make_objective(problem, settings, box)
    watch = _Watch(make_callback(problem.callback), settings, box)
    _check_unused(optimizer.rule.name.lower(), problem)
    box.project(x)
    # A gradient that it cannot use ends the run; it is no exception here.
    opt = optimizer(x, nonfinite="skip", **hyperparameters)
    result = _descend(opt, x, objective, watch, settings)
    if settings.disp:
        _display(result)
    return result


def _descend(
    opt: Optimizer,
    x: NDArray[np.float64],
    objective: Objective,
    watch: _Watch,
    settings: Settings,
) -> OptimizeResult:
    """Update `x` until the run ends."""
    nit = 0
    while True:
        value, gradient = objective.at(x)
        ending = watch.look(nit, x, value, gradient)
        if ending is None and opt.step(gradient, **settings.limits).skipped:
            ending = OVERFLOW
        if ending is not None:
            return OptimizeResult(
                x=watch.x,
                fun=watch.fun,
                jac=objective.shown(watch.jac),
                nit=nit,
                nfev=objective.nfev,
                njev=objective.njev,
                status=ending.status,
                success=ending.status == 0,
                message=ending.message,
            )
        watch.box.project(x)
        nit += 1


class _Watch:
    """What looks at every point: it keeps the one to return, calls back, and ends the run.

    `x`, `fun` and `jac` are the point that is kept.
    """

    x: NDArray[np.float64]
    fun: float
    jac: NDArray[np.float64]

    def __init__(
        self, callback: Callable[[OptimizeResult], bool] | None, settings: Settings, box: Box
    ) -> None:
        self.box = box
        self._callback = callback
        self._stopping = Stopping(settings)
        self._keep_last = settings.stochastic

    def look(
        self, nit: int, x: NDArray[np.float64], value: float, gradient: NDArray[np.float64]
    ) -> Ending | None:
        """How the run ends at this point, or None."""
        finite = np.isfinite(value) and np.isfinite(gradient).all()
        if nit == 0:
            self.x, self.fun, self.jac = x.copy(), value, gradient.copy()
        if not finite:
            return NOT_FINITE
        if self._keep_last or value <= self.fun:
            self._keep(x, value, gradient)
        if nit and self._halts(nit, x, value, gradient):
            return HALTED
        ending = self._stopping.test(nit, value, self.box.slope(x, gradient))
        if ending is GRADIENT:
            self._keep(x, value, gradient)
        return ending

    def _halts(
        self, nit: int, x: NDArray[np.float64], value: float, gradient: NDArray[np.float64]
    ) -> bool:
        if self._callback is None:
            return False
        result = OptimizeResult(x=x.copy(), fun=value, jac=gradient.copy(), nit=nit)
        return self._callback(result)

    def _keep(self, x: NDArray[np.float64], value: float, gradient: NDArray[np.float64]) -> None:
        self.fun = value
        np.copyto(self.x, x)
        np.copyto(self.jac, gradient)


def _check_unused(name: str, problem: Problem) -> None:
    """Say what is not used: derivatives do no harm, constraints would be violated."""
    constraints = problem.constraints
    none = constraints is None or (isinstance(constraints, tuple | list) and not constraints)
    if not none:
        raise ValueError(
            f"{name} takes no constraints but bounds; use method='SLSQP' or 'trust-constr', or add "
            "a penalty to the objective"
        )
    for key in ("hess", "hessp"):
        if getattr(problem, key) is not None:
            # From here over the method and `minimize` to the line that called that.
            warnings.warn(f"{name} does not use {key}", RuntimeWarning, stacklevel=5)


def _display(result: OptimizeResult) -> None:
    print(result.message)  # noqa: T201 - `disp` asks for it
    for label, key in (
        ("Current function value", "fun"),
        ("Iterations", "nit"),
        ("Function evaluations", "nfev"),
        ("Gradient evaluations", "njev"),
    ):
        print(f"         {label}: {result[key]}")  # noqa: T201 - as above

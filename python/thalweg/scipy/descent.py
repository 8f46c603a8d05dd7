"""The loop that all methods share."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import OptimizeResult, OptimizeWarning

from thalweg.scipy.box import Box, make_box, start
from thalweg.scipy.callbacks import make_callback
from thalweg.scipy.objective import Objective, Problem, make_objective
from thalweg.scipy.options import make_settings, unknown_options
from thalweg.scipy.rates import Stepper
from thalweg.scipy.stopping import (
    GRADIENT,
    HALTED,
    NO_SAMPLE,
    NOT_FINITE,
    OVERFLOW,
    Ending,
    Stopping,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from thalweg.optimizer import Optimizer
    from thalweg.scipy.options import Settings


def solve(
    optimizer: type[Optimizer],
    hyperparameters: Mapping[str, Any],
    problem: Problem,
    options: Mapping[str, Any],
) -> OptimizeResult:
    """Minimize with an optimizer class; all arguments are checked before `fun` is called."""
    name = optimizer.rule.name.lower()
    unknown = unknown_options(optimizer.rule, hyperparameters, options)
    settings = make_settings(options)
    x = start(problem.x0)
    box = make_box(problem.bounds, x.size)
    objective = make_objective(problem, settings, box)
    watch = _Watch(make_callback(problem.callback), settings, box)
    _check_unused(name, problem, unknown)
    box.project(x)
    stepper = Stepper(optimizer, x, hyperparameters)
    result = _descend(stepper, x, objective, watch, settings)
    if settings.disp:
        _display(result)
    return result


def _descend(
    stepper: Stepper,
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
        if ending is None and stepper.step(gradient, **settings.limits).skipped:
            ending = OVERFLOW
        if ending in (NOT_FINITE, OVERFLOW) and settings.nonfinite == "skip":
            ending = watch.leave_out()
            if ending is None:
                continue
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
                **watch.outcome(ending),
            )
        watch.box.project(x)
        nit += 1


class _Watch:
    """Observer of every point: it keeps the point to return, calls back, and ends the run.

    `x`, `fun` and `jac` are the point to return.
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
        self._settings = settings
        self._nit = self._called = self._skips = self._in_a_row = 0

    def look(
        self, nit: int, x: NDArray[np.float64], value: float, gradient: NDArray[np.float64]
    ) -> Ending | None:
        """The ending of the run at this point, or None."""
        if nit > self._nit:
            self._nit, self._in_a_row = nit, 0
        finite = np.isfinite(value) and np.isfinite(gradient).all()
        if nit == 0:
            self.x, self.fun, self.jac = x.copy(), value, gradient.copy()
        if not finite:
            return NOT_FINITE
        if self._settings.stochastic or value <= self.fun:
            self._keep(x, value, gradient)
        if nit > self._called:  # once per iteration, even if its first sample was unusable
            self._called = nit
            if self._halts(nit, x, value, gradient):
                return HALTED
        ending = self._stopping.test(nit, value, self.box.slope(x, gradient))
        if ending is GRADIENT:
            self._keep(x, value, gradient)
        return ending

    def leave_out(self) -> Ending | None:
        """Count an unusable sample; return the ending of the run, or None."""
        self._skips += 1
        self._in_a_row += 1
        return NO_SAMPLE if self._in_a_row >= self._settings.n_iter_no_change else None

    def outcome(self, ending: Ending) -> dict[str, Any]:
        """Entries of the result about the ending and about samples that were left out."""
        if self._settings.nonfinite != "skip":
            return {"message": ending.message}
        left_out = f" Samples skipped because they were not finite or too large: {self._skips}."
        return {"message": ending.message + left_out, "nskip": self._skips}

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


def _check_unused(name: str, problem: Problem, unknown: str | None) -> None:
    """Warn of unused derivatives and options; refuse constraints, which would be violated."""
    constraints = problem.constraints
    none = constraints is None or (isinstance(constraints, tuple | list) and not constraints)
    if not none:
        raise ValueError(
            f"{name} takes no constraints but bounds; use method='SLSQP' or 'trust-constr', or add "
            "a penalty to the objective"
        )
    for key in ("hess", "hessp"):
        if getattr(problem, key) is not None:
            # The level of the caller of `minimize`, above the method.
            warnings.warn(f"{name} does not use {key}", RuntimeWarning, stacklevel=5)
    if unknown:
        warnings.warn(OptimizeWarning(unknown), stacklevel=5)


def _display(result: OptimizeResult) -> None:
    print(result.message)  # noqa: T201 - requested by `disp`
    for label, key in (
        ("Current function value", "fun"),
        ("Iterations", "nit"),
        ("Function evaluations", "nfev"),
        ("Gradient evaluations", "njev"),
    ):
        print(f"         {label}: {result[key]}")  # noqa: T201 - requested by `disp`

"""The objective: calls of the user's functions as SciPy makes them, with checks of the results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

# Private, but SciPy's only finite differences within bounds: `approx_fprime` does not take bounds.
from scipy.optimize._numdiff import approx_derivative

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from thalweg.scipy.box import Box
    from thalweg.scipy.options import Settings

SCHEMES = ("2-point", "3-point", "cs")


@dataclass(frozen=True)
class Problem:
    """The arguments that `scipy.optimize.minimize` passes to a method, without options."""

    fun: Any
    x0: Any
    args: Any
    jac: Any
    hess: Any
    hessp: Any
    bounds: Any
    constraints: Any
    callback: Any


class Objective:
    """A function and its gradient, from one function that returns both.

    `nfev` and `njev` count calls of the function and gradients, as SciPy does.
    """

    def __init__(self, fun: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._fun = fun
        self._args = args
        self.nfev = 0
        self.njev = 0

    def at(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Value and gradient at `x`; NaN and infinity are returned unchanged.

        Raises
        ------
        TypeError, ValueError
            If they are not a real number, and a real array of the shape of `x`.
        """
        self.nfev += 1
        self.njev += 1
        returned = self._fun(x.copy(), *self._args)
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            what = type(returned).__name__
            raise TypeError(
                f"the objective must return (value, gradient) with jac=True, got {what}; return "
                "both, or pass jac a function for the gradient, or leave jac out for finite "
                "differences"
            )
        return as_value(returned[0]), as_gradient(returned[1], x.size)

    def shown(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """A gradient in the form of the result."""
        return gradient


class SeparateGradient(Objective):
    """A function, and a second one for its gradient."""

    def __init__(
        self, fun: Callable[..., Any], args: tuple[Any, ...], jac: Callable[..., Any]
    ) -> None:
        super().__init__(fun, args)
        self._jac = jac

    def at(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Value and gradient; if the value is not finite, the gradient is NaN without a call."""
        value = self._value(x)
        if not np.isfinite(value):
            return value, np.full(x.size, np.nan)
        self.njev += 1
        return value, self._gradient(x, value)

    def _value(self, x: NDArray[np.float64]) -> float:
        self.nfev += 1
        return as_value(self._fun(x.copy(), *self._args))

    def _gradient(self, x: NDArray[np.float64], _value: float) -> NDArray[np.float64]:
        return as_gradient(self._jac(x.copy(), *self._args), x.size)


class FiniteDifferences(SeparateGradient):
    """A function whose gradient SciPy approximates, within the bounds."""

    def __init__(
        self,
        fun: Callable[..., Any],
        args: tuple[Any, ...],
        scheme: str,
        settings: Settings,
        box: Box,
    ) -> None:
        super().__init__(fun, args, fun)
        self._scheme = scheme
        self._rel_step = _rel_step(settings.finite_diff_rel_step, box)
        self._box = box

    def _gradient(self, x: NDArray[np.float64], value: float) -> NDArray[np.float64]:
        # Variables with equal bounds leave no room for a difference, so they are excluded.
        free = self._box.free
        gradient = np.zeros(x.size)

        def of_free(part: NDArray[Any]) -> Any:
            whole = x.astype(part.dtype)
            whole[free] = part
            self.nfev += 1
            return as_number(self._fun(whole, *self._args), complex_too=self._scheme == "cs")

        if free.any():
            gradient[free] = approx_derivative(
                of_free,
                x[free],
                method=self._scheme,
                rel_step=None if self._rel_step is None else self._rel_step[free],
                f0=np.array(value),
                bounds=(self._box.lower[free], self._box.upper[free]),
            )
        return gradient

    def shown(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """The gradient with NaN for variables without a difference, as in SciPy."""
        return np.where(self._box.free, gradient, np.nan)


def make_objective(problem: Problem, settings: Settings, box: Box) -> Objective:
    """The objective for SciPy's `fun` and `jac`.

    Raises
    ------
    TypeError, ValueError
        For an invalid `fun` or `jac`, and for options of finite differences beside a gradient.
    """
    fun, jac = problem.fun, problem.jac
    args = problem.args if isinstance(problem.args, tuple) else (problem.args,)
    if not callable(fun):
        raise TypeError(f"fun must be a function of x, got {fun!r}")
    if jac is not True and not callable(jac):
        return FiniteDifferences(fun, args, _scheme(jac, settings), settings, box)
    for key in ("finite_diff_method", "finite_diff_rel_step"):
        if getattr(settings, key) is not None:
            raise ValueError(
                f"{key} is for finite differences, but jac returns the gradient; pass one of them"
            )
    # With jac=True, `minimize` splits the user's function in two that cache the last `x`. The
    # original must be called once per step even if `x` did not change: it may be a sample.
    memo = type(fun).__module__.startswith("scipy.") and getattr(jac, "__self__", None) is fun
    if memo and hasattr(fun, "fun"):
        return Objective(fun.fun, args)
    return Objective(fun, args) if jac is True else SeparateGradient(fun, args, jac)


def _scheme(jac: Any, settings: Settings) -> str:
    scheme = settings.finite_diff_method
    if not (jac is None or jac is False or (isinstance(jac, str) and jac in SCHEMES)):
        raise TypeError(
            "jac must be True (fun returns value and gradient), a function, None, '2-point', "
            f"'3-point' or 'cs', got {jac!r}"
        )
    if scheme is not None and scheme not in SCHEMES:
        raise ValueError(f"finite_diff_method must be '2-point', '3-point' or 'cs', got {scheme!r}")
    if jac and scheme and jac != scheme:
        raise ValueError(
            f"jac and finite_diff_method must be the same, got {jac!r} and {scheme!r}; "
            "pass one of them"
        )
    return scheme or jac or "2-point"


def _rel_step(given: Any, box: Box) -> NDArray[Any] | None:
    """The relative step of each variable, or None."""
    if given is None:
        return None
    steps, size = np.asarray(given), box.lower.size
    if steps.dtype.kind not in "iuf" or steps.shape not in ((), (size,)):
        raise ValueError(
            f"finite_diff_rel_step must be a number, or one for each of the {size} variables, got "
            f"{given!r}"
        )
    return np.broadcast_to(steps, size)


def as_value(returned: Any) -> float:
    """The returned value of an objective, as a float."""
    return float(as_number(returned))


def as_number(returned: Any, *, complex_too: bool = False) -> Any:
    """A number from a scalar or an array of one element, which SciPy accepts too.

    Raises
    ------
    TypeError, ValueError
        For anything else.
    """
    if isinstance(returned, tuple):
        raise TypeError(
            f"the objective must return a number, got a tuple of length {len(returned)}; pass "
            "jac=True if it returns (value, gradient)"
        )
    value = np.asarray(returned)
    if value.dtype.kind not in ("biufc" if complex_too else "biuf"):
        raise TypeError(f"the objective must return a real number, got {kind(returned)}")
    if value.size != 1:
        raise ValueError(
            f"the objective must return one number, got an array of shape {value.shape}"
        )
    return value.item()


def as_gradient(returned: Any, size: int) -> NDArray[np.float64]:
    """A gradient, as float64 of shape (size,).

    Raises
    ------
    TypeError, ValueError
        For a sparse array, a dtype that is not real, or another shape.
    """
    if sparse.issparse(returned):
        raise TypeError(
            "the gradient must be dense, got a sparse array; return gradient.toarray().ravel()"
        )
    gradient = np.atleast_1d(np.asarray(returned))
    if gradient.dtype.kind not in "biuf":
        raise TypeError(f"the gradient must be an array of real numbers, got {kind(returned)}")
    if gradient.shape != (size,):
        raise ValueError(f"the gradient must have the shape of x, ({size},), got {gradient.shape}")
    return gradient.astype(np.float64, copy=False)


def kind(returned: Any) -> str:
    """The name of a value's type, with the dtype if it is an array."""
    name = type(returned).__name__
    return f"{name} of {returned.dtype}" if isinstance(returned, np.ndarray) else name

"""The methods: optimizers of thalweg with the signature that `scipy.optimize.minimize` calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thalweg.rules.adam import Adam
from thalweg.rules.adamw import AdamW
from thalweg.rules.sgd import SGD, SGDW
from thalweg.scipy.descent import solve
from thalweg.scipy.objective import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scipy.optimize import OptimizeResult
    from typing_extensions import Unpack

    from thalweg.numbers import Number
    from thalweg.scipy.options import Options
    from thalweg.scipy.rates import Rates

__all__ = ["adam", "adamw", "sgd", "sgdw"]


def adamw(
    fun: Any,
    x0: Any,
    args: Any = (),
    *,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Any = None,
    lr: Rates = 0.01,
    betas: Sequence[Number] = (0.9, 0.999),
    eps: Number = 1e-8,
    weight_decay: Number | None = None,
    independent: bool = False,
    amsgrad: bool = False,
    **options: Unpack[Options],
) -> OptimizeResult:
    """AdamW as a method of `scipy.optimize.minimize`.

    Pass it as ``method=thalweg.scipy.adamw`` with its options in ``options={...}``, or call it with
    the options as keywords. The updates are those of `thalweg.AdamW`, with the same bits.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args) -> float``, or ``-> (float, gradient)`` with ``jac=True``. `x` has shape
        (n,) and is float64, a copy that `fun` may keep.
    x0 : array_like of real numbers
        Initial point: finite, of any shape, converted to float64 of shape (n,). A point outside
        `bounds` is projected to the nearest one inside, as in L-BFGS-B.
    args : tuple
        Additional arguments of `fun` and `jac`.
    jac : True, callable, None, "2-point", "3-point" or "cs"
        True if `fun` returns value and gradient; ``jac(x, *args) -> gradient`` of shape (n,);
        None or a scheme for SciPy's finite differences with relative steps, which stay within
        `bounds`. `minimize` replaces a scheme by None before it calls the method: use
        `finite_diff_method`.
    bounds : scipy.optimize.Bounds or sequence of (low, high)
        None in a pair means no bound. `x` is projected after every update.
    callback : callable
        ``callback(xk)``, or ``callback(intermediate_result)`` with exactly this name, called after
        every iteration with `x`, `fun`, `jac` and `nit`. `StopIteration` ends the run.
    hess, hessp
        Unused, with a warning.
    constraints
        Refused, unless empty.
    lr : float, callable, or array_like of them, default 0.01
        Learning rate: about the distance that an element of `x` moves in one iteration. Like any
        other hyperparameter it may be a callable of the 1-based iteration, such as a
        `thalweg.schedule`. If scales differ, one for each variable: an array of the shape of `x`,
        or a list of schedules.
    betas, eps, independent, amsgrad
        As for `thalweg.AdamW`. `eps` is the rule's, not the step of finite differences.
    weight_decay : float or callable, default 0
        As for `thalweg.AdamW`, except for the default. With decay the result is not the minimum of
        `fun`.
    maxiter : int, default 15000
        Maximum number of iterations, each with one update and one evaluation. As in SciPy it may be
        a float, such as 1e3; None is the default.
    gtol : float or None, default 1e-5
        The run has converged once no element of the gradient is larger (the infinity norm). With
        bounds, the projected gradient counts: each element is at most the distance to the bound in
        its direction.
    ftol : float or None, default 2.2e-9
        The run ends without success if no value is lower by more than ``ftol * max(1, |fun|)`` for
        `n_iter_no_change` iterations: the learning rate may be too small or too large. None
        disables the test.
    n_iter_no_change : int, default 500
        Patience of `ftol` and of ``nonfinite="skip"``.
    tol : float
        Default of `gtol` and `ftol`.
    stochastic : bool, default False
        True if `fun` is a sample, such as a mini-batch's loss. Its values are then not compared,
        the last point is returned, and `gtol` and `ftol` do not end the run.
    nonfinite : {"stop", "skip"}, default "stop"
        Treatment of a value or gradient that is NaN, infinite or too large. "stop" ends the run.
        "skip", for a `stochastic` objective, leaves the sample out: `fun` is called again at the
        same `x`, and no iteration is counted. `n_iter_no_change` of them in a row end the run.
    max_norm, max_value : float
        Clip the gradient by its Euclidean norm, or each element; at most one of them.
    finite_diff_method : {"2-point", "3-point", "cs"}
        Scheme of finite differences.
    finite_diff_rel_step : float or array_like
        Relative step of finite differences; by default SciPy's.
    disp : bool, default False
        Print the result of the run.
    **options
        Other names are unused, with a `scipy.optimize.OptimizeWarning`, as in SciPy.

    Returns
    -------
    scipy.optimize.OptimizeResult
        `x`, `fun` and `jac` are of one point: the one that met `gtol`, else the best one seen; with
        `stochastic`, the last finite one. `nit`, `nfev`, `njev`, `message`, and `status`: 0
        converged, 1 `maxiter` reached, 2 no progress, 3 objective or gradient not finite (or too
        large to be squared), 99 stopped by the callback. `success` is ``status == 0``. With
        ``nonfinite="skip"`` also `nskip`, the number of samples left out.

    Raises
    ------
    TypeError, ValueError
        Before `fun` is called: for invalid arguments and options, and for options of another method
        of thalweg. Later: if `fun` or `jac` does not return a real number, or a gradient of the
        shape of `x`.

    Examples
    --------
    >>> import numpy as np, thalweg.scipy
    >>> from scipy.optimize import minimize, rosen, rosen_der
    >>> options = {"lr": 0.05}
    >>> found = minimize(
    ...     rosen, [-1.2, 1.0], jac=rosen_der, method=thalweg.scipy.adamw, options=options
    ... )
    >>> found.success, found.x.round(3)
    (True, array([1., 1.]))
    """
    problem = Problem(fun, x0, args, jac, hess, hessp, bounds, constraints, callback)
    values = {
        "lr": lr,
        "betas": betas,
        "eps": eps,
        "weight_decay": _decay(weight_decay, independent),
        "independent": independent,
        "amsgrad": amsgrad,
    }
    return solve(AdamW, values, problem, options)


def adam(
    fun: Any,
    x0: Any,
    args: Any = (),
    *,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Any = None,
    lr: Rates = 0.01,
    betas: Sequence[Number] = (0.9, 0.999),
    eps: Number = 1e-8,
    l2: Number = 0.0,
    amsgrad: bool = False,
    **options: Unpack[Options],
) -> OptimizeResult:
    """Adam as a method of `scipy.optimize.minimize`; with ``amsgrad=True`` AMSGrad.

    Parameters
    ----------
    fun, x0, args, jac, hess, hessp, bounds, constraints, callback
        As for `adamw`.
    lr : float or callable, default 0.01
        Learning rate.
    betas, eps, amsgrad
        As for `thalweg.Adam`.
    l2 : float or callable, default 0
        Penalty: ``l2·x`` is added to the gradient of `fun`. It is in neither `fun` nor `jac` of the
        result, and `gtol` and `ftol` ignore it.
    **options
        As for `adamw`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        As for `adamw`.

    Examples
    --------
    >>> import thalweg.scipy
    >>> found = thalweg.scipy.adam(lambda x: ((x - 3.0) ** 2).sum(), [0.0, 1.0], lr=0.1)
    >>> found.success, found.x.round(3)
    (True, array([3., 3.]))
    """
    problem = Problem(fun, x0, args, jac, hess, hessp, bounds, constraints, callback)
    values = {
        "lr": lr,
        "betas": betas,
        "eps": eps,
        "l2": l2,
        "amsgrad": amsgrad,
    }
    return solve(Adam, values, problem, options)


def sgdw(
    fun: Any,
    x0: Any,
    args: Any = (),
    *,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Any = None,
    lr: Rates,
    momentum: Number = 0.0,
    dampening: Number = 0.0,
    nesterov: bool = False,
    weight_decay: Number | None = None,
    independent: bool = False,
    **options: Unpack[Options],
) -> OptimizeResult:
    """SGD with momentum and decoupled decay as a method of `scipy.optimize.minimize`.

    Parameters
    ----------
    fun, x0, args, jac, hess, hessp, bounds, constraints, callback
        As for `adamw`.
    lr : float or callable
        Learning rate, without a default because it depends on the scale of the gradient. It should
        be below 2 divided by the largest curvature.
    momentum, dampening, nesterov, independent
        As for `thalweg.SGDW`.
    weight_decay : float or callable, default 0
        As for `thalweg.SGDW`, except for the default.
    **options
        As for `adamw`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        As for `adamw`.

    Examples
    --------
    >>> import numpy as np, thalweg.scipy
    >>> x0 = np.array([4.0, -8.0])
    >>> def flat(x):
    ...     return 0.0, np.zeros(2)
    >>> options = {"weight_decay": 0.5, "gtol": None, "maxiter": 2}
    >>> thalweg.scipy.sgdw(flat, x0, jac=True, lr=1.0, **options).x  # nothing but decay
    array([ 1., -2.])
    """
    problem = Problem(fun, x0, args, jac, hess, hessp, bounds, constraints, callback)
    values = {
        "lr": lr,
        "momentum": momentum,
        "dampening": dampening,
        "nesterov": nesterov,
        "weight_decay": _decay(weight_decay, independent),
        "independent": independent,
    }
    return solve(SGDW, values, problem, options)


def sgd(
    fun: Any,
    x0: Any,
    args: Any = (),
    *,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Any = None,
    lr: Rates,
    momentum: Number = 0.0,
    dampening: Number = 0.0,
    nesterov: bool = False,
    l2: Number = 0.0,
    **options: Unpack[Options],
) -> OptimizeResult:
    """Gradient descent with momentum as a method of `scipy.optimize.minimize`.

    Parameters
    ----------
    fun, x0, args, jac, hess, hessp, bounds, constraints, callback
        As for `adamw`.
    lr : float or callable
        Learning rate, without a default because it depends on the scale of the gradient. It should
        be below 2 divided by the largest curvature.
    momentum, dampening, nesterov
        As for `thalweg.SGD`.
    l2 : float or callable, default 0
        As for `adam`.
    **options
        As for `adamw`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        As for `adamw`.

    Examples
    --------
    >>> import thalweg.scipy
    >>> found = thalweg.scipy.sgd(lambda x: (x @ x, 2 * x), [1.0, -2.0], jac=True, lr=0.25)
    >>> found.success, found.nit, bool(abs(found.x).max() < 1e-5)
    (True, 19, True)
    """
    problem = Problem(fun, x0, args, jac, hess, hessp, bounds, constraints, callback)
    values = {
        "lr": lr,
        "momentum": momentum,
        "dampening": dampening,
        "nesterov": nesterov,
        "l2": l2,
    }
    return solve(SGD, values, problem, options)


def _decay(weight_decay: Number | None, independent: bool) -> Number | None:
    """No decay by default: `minimize` promises the minimum of `fun`."""
    return 0.0 if weight_decay is None and not independent else weight_decay

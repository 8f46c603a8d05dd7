"""`thalweg.scipy` keeps SciPy's contract: derivatives, bounds, callbacks, termination."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

optimize = pytest.importorskip("scipy.optimize")

from scipy_methods import CENTRE, METHODS, Bowl, minimize  # noqa: E402 - only where SciPy is

import thalweg.scipy as methods  # noqa: E402 - as above
from thalweg.scipy.options import Options, Settings  # noqa: E402 - as above

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(("method", "lr"), METHODS)
@pytest.mark.parametrize("through", [True, False], ids=["minimize", "direct"])
@pytest.mark.parametrize("jac", ["pair", "function", None, "2-point", "3-point", "cs"])
def test_derivatives_are_given_as_in_scipy(method: Any, lr: float, through: bool, jac: Any) -> None:
    bowl = Bowl()
    fun = bowl.both if jac == "pair" else bowl.value
    given = {"pair": True, "function": bowl.gradient}.get(jac, jac)
    options = {"lr": lr, "maxiter": 2000, "gtol": 1e-4}
    if through:
        found = minimize(method, fun, args=(3.0,), jac=given, options=options)
    else:
        found = method(fun, np.zeros(3), (3.0,), jac=given, **options)
    assert found.success
    assert found.x == pytest.approx(CENTRE, abs=1e-4)
    assert found.nfev == bowl.calls
    assert found.njev == found.nit + 1
    if given is True or callable(given):
        assert found.njev == bowl.gradients
        assert found.nfev == found.nit + 1
    else:
        # `minimize` does not pass a difference scheme on to a custom method.
        per_gradient = 6 if jac == "3-point" and not through else 3
        assert found.nfev == (found.nit + 1) * (1 + per_gradient)


@pytest.mark.parametrize(("scheme", "error"), [("2-point", 1e-4), ("3-point", 1e-8), ("cs", 1e-14)])
def test_finite_diff_method_chooses_the_scheme_that_minimize_drops(
    scheme: str, error: float
) -> None:
    options = {"finite_diff_method": scheme, "maxiter": 0}
    found = minimize(methods.adam, lambda x: np.exp(x).sum(), [1.0, 2.0], options=options)
    assert 0 <= np.abs(found.jac - np.exp([1.0, 2.0])).max() < error


def test_finite_diff_rel_step_may_differ_by_variable() -> None:
    options = {"finite_diff_rel_step": [0.1, 0.01], "maxiter": 0}
    found = minimize(methods.adam, lambda x: x @ x, [1.0, 1.0], options=options)
    assert found.jac == pytest.approx([2.1, 2.01])


def test_a_single_argument_needs_no_tuple() -> None:
    found = methods.adam(lambda x, a: a * x @ x, [1.0], 3.0, maxiter=0)
    assert found.fun == 3.0


@pytest.mark.parametrize(
    "x0", [[1, 2], (1.0, 2.0), np.array([1, 2], np.int8), np.array([1, 2], np.float32)], ids=repr
)
def test_any_real_start_is_converted_to_float64(x0: Any) -> None:
    seen = set()

    def fun(x: Any) -> tuple[float, Any]:
        seen.add((x.dtype.name, x.shape))
        return float(x @ x), (2 * x).astype(np.float32)

    found = minimize(methods.adam, fun, x0, jac=True, options={"lr": 0.1})
    assert seen == {("float64", (2,))}
    assert found.x.dtype == found.jac.dtype == np.float64
    assert found.success


def test_a_direct_call_ravels_and_a_scalar_is_one_variable() -> None:
    assert methods.adam(lambda x: x @ x, np.ones((2, 3)), lr=0.1).x.shape == (6,)
    found = methods.adam(lambda x: ((x[0] - 1) ** 2, 2 * (x[0] - 1)), 3, jac=True, lr=0.1)
    assert found.x == pytest.approx([1.0], abs=1e-4)


def test_a_problem_without_variables_converges_at_once() -> None:
    found = methods.adamw(lambda x: (2.0, x), [], jac=True)
    assert (found.success, found.fun, found.x.shape) == (True, 2.0, (0,))


BOUNDS = {
    "Bounds": optimize.Bounds([-1.0, -1.0, 3.5], [0.5, np.inf, np.inf]),
    "pairs": [(-1.0, 0.5), (-1.0, None), (3.5, None)],
}


@pytest.mark.parametrize(("method", "lr"), METHODS)
@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS)
@pytest.mark.parametrize("jac", [True, None], ids=["gradient", "differences"])
def test_bounds_hold_in_every_call_and_at_the_solution(
    method: Any, lr: float, bounds: Any, jac: Any
) -> None:
    lower, upper = np.array([-1.0, -1.0, 3.5]), np.array([0.5, np.inf, np.inf])
    bowl = Bowl()

    def fun(x: Any) -> Any:
        assert (lower <= x).all()
        assert (x <= upper).all()
        return bowl.both(x) if jac else bowl.value(x)

    x0 = [9.0, 0.0, 0.0]  # outside: moved to the nearest point inside, as in L-BFGS-B
    found = minimize(method, fun, x0, jac=jac, bounds=bounds, options={"lr": lr})
    reference = minimize("L-BFGS-B", fun, x0, jac=jac, bounds=bounds)
    assert found.success
    assert found.x == pytest.approx([0.5, -1.0, 3.5])
    assert found.x == pytest.approx(reference.x)
    assert found.jac == pytest.approx([-1.0, 2.0, 1.0], abs=1e-6)  # not zero: the bounds are active


@pytest.mark.parametrize("jac", [True, None], ids=["gradient", "differences"])
def test_equal_bounds_fix_a_variable(jac: Any) -> None:
    bowl = Bowl()
    bounds = [(None, None), (7.0, 7.0), (None, None)]
    fun = bowl.both if jac else bowl.value
    found = minimize(methods.adamw, fun, jac=jac, bounds=bounds, options={"lr": 0.1})
    assert found.success
    assert found.x == pytest.approx([1.0, 7.0, 3.0], abs=1e-4)
    assert np.isnan(found.jac[1]) == (jac is None)  # SciPy computes no difference here either


def test_infinite_bounds_change_no_bit() -> None:
    runs = [
        minimize(methods.adamw, Bowl().both, jac=True, bounds=bounds, options={"maxiter": 40})
        for bounds in (
            None,
            [(None, None)] * 3,
            optimize.Bounds(),
            optimize.Bounds(-np.inf, np.inf),
        )
    ]
    assert len({run.x.tobytes() for run in runs}) == 1


@pytest.mark.parametrize(("method", "lr"), METHODS)
@pytest.mark.parametrize("through", [True, False], ids=["minimize", "direct"])
def test_callbacks_may_have_both_forms_of_scipy(method: Any, lr: float, through: bool) -> None:
    points: list[Any] = []
    results: list[Any] = []

    def of_result(*, intermediate_result: Any) -> None:
        results.append(intermediate_result)

    for callback in (points.append, of_result):
        arguments = {"jac": True, "callback": callback}
        options = {"lr": lr, "maxiter": 7}
        if through:
            found = minimize(method, Bowl().both, options=options, **arguments)
        else:
            found = method(Bowl().both, np.zeros(3), **arguments, **options)
    assert len(points) == len(results) == found.nit == 7
    for nit, (point, result) in enumerate(zip(points, results, strict=True), 1):
        assert isinstance(result, optimize.OptimizeResult)
        assert (point == result.x).all()
        assert result.fun == Bowl().value(point.copy())
        assert (result.jac == Bowl().gradient(point.copy())).all()
        assert result.nit == nit


def test_a_callback_may_write_to_what_it_gets() -> None:
    def spoil(intermediate_result: Any) -> None:
        intermediate_result.x[:] = np.nan
        intermediate_result.jac[:] = np.nan

    found = minimize(methods.adam, Bowl().both, jac=True, callback=spoil, options={"lr": 0.1})
    assert found.success


@pytest.mark.parametrize("through", [True, False], ids=["minimize", "direct"])
def test_a_callback_ends_the_run_as_in_scipy(through: bool) -> None:
    def stop(intermediate_result: Any) -> None:
        if intermediate_result.nit == 3:
            raise StopIteration

    if through:
        found = minimize(methods.adamw, Bowl().both, jac=True, callback=stop)
        scipy_s = minimize("BFGS", Bowl().both, jac=True, callback=lambda _: stop(found))
        assert (found.status, found.message) == (scipy_s.status, scipy_s.message)
    else:
        found = methods.adamw(Bowl().both, np.zeros(3), jac=True, callback=stop)
    assert (found.status, found.success, found.nit) == (99, False, 3)


def test_the_result_is_the_best_point_or_the_last_if_stochastic() -> None:
    path: list[Any] = []
    options = {"lr": 1.5, "maxiter": 30}  # a step so large that values rise and fall

    def run(**more: Any) -> Any:
        path.clear()
        return minimize(
            methods.adam, Bowl().both, jac=True, callback=path.append, options={**options, **more}
        )

    best = run()
    values = [Bowl().value(x.copy()) for x in path]
    assert int(np.argmin(values)) < len(path) - 1
    assert (best.x == path[int(np.argmin(values))]).all()
    assert best.fun == min(values)
    assert (best.jac == Bowl().gradient(best.x.copy())).all()
    last = run(stochastic=True)
    assert (last.x == path[-1]).all()
    assert last.fun == Bowl().value(path[-1].copy())


def test_a_stochastic_objective_is_sampled_again_even_if_x_does_not_move() -> None:
    samples: Iterator[float] = iter(np.arange(100.0))
    seen: list[float] = []

    def sampled(_: Any) -> tuple[float, Any]:
        seen.append(next(samples))
        return seen[-1], np.full(1, seen[-1])

    options = {"lr": 0.0, "maxiter": 5, "stochastic": True}
    found = minimize(methods.sgd, sampled, [1.0], jac=True, options=options)
    assert seen == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert (found.fun, found.nfev, found.status) == (5.0, 6, 1)


def test_only_a_small_gradient_is_convergence() -> None:
    for gtol in (1e-1, 1e-3, 1e-6):
        options = {"lr": 0.2, "gtol": gtol, "ftol": None}
        found = minimize(methods.sgd, Bowl().both, jac=True, options=options)
        assert found.status == 0
        assert gtol / 10 < np.abs(found.jac).max() <= gtol
    nearest = minimize(methods.sgd, Bowl().both, CENTRE, jac=True, options={"lr": 0.2})
    assert (nearest.nit, nearest.nfev, nearest.success) == (0, 1, True)


def test_no_progress_ends_without_success_after_the_patience() -> None:
    for lr in (1e-14, 1.0):  # too small to change the value; oscillates forever
        options = {"lr": lr, "n_iter_no_change": 20}
        found = minimize(methods.sgd, Bowl().both, jac=True, options=options)
        assert (found.status, found.success, found.nit) == (2, False, 20)
        assert "ftol" in found.message


def test_small_improvements_add_up_to_progress() -> None:
    # Each improvement is a third of the tolerance.
    options = {"lr": 1e-4, "ftol": 3e-4, "n_iter_no_change": 10, "maxiter": 50}
    found = methods.sgd(lambda x: (float(x[0]), np.ones(1)), [0.0], jac=True, **options)
    assert found.status == 1


def test_tol_sets_both_tolerances_unless_given() -> None:
    def run(tol: float, **options: Any) -> Any:
        options = {"lr": 0.01, "n_iter_no_change": 5, **options}
        return minimize(methods.sgd, Bowl().both, jac=True, tol=tol, options=options)

    loose = run(1.0, ftol=None)
    assert loose.success
    assert 0.9 < np.abs(loose.jac).max() <= 1.0
    assert np.abs(run(1e-9, gtol=1.0).jac).max() == np.abs(loose.jac).max()
    assert run(0.5, gtol=1e-3).status == 2
    assert run(0.5, gtol=1e-3, ftol=1e-12).status == 0


def test_a_tolerance_of_zero_is_met_by_a_gradient_of_zero() -> None:
    options = {"lr": 0.1, "gtol": 0.0}
    assert minimize(methods.adam, Bowl().both, CENTRE, jac=True, options=options).nit == 0


@pytest.mark.parametrize(("method", "lr"), METHODS)
def test_maxiter_counts_updates(method: Any, lr: float) -> None:
    for maxiter in (0, 1, 6):
        options = {"lr": lr, "maxiter": maxiter}
        found = minimize(method, Bowl().both, jac=True, options=options)
        assert (found.status, found.success) == (1, False)
        assert (found.nit, found.nfev) == (maxiter, maxiter + 1)


@pytest.mark.parametrize(
    ("value", "gradient"),
    [(np.nan, 1.0), (np.inf, 1.0), (-np.inf, 1.0), (0.0, np.nan), (0.0, -np.inf)],
)
@pytest.mark.parametrize("separate", [True, False])
def test_nonfinite_values_end_the_run_at_the_best_point(
    value: float, gradient: float, separate: bool
) -> None:
    def fun(x: Any) -> Any:
        return value if x[0] < 0.5 else x[0]

    def jac(x: Any) -> Any:
        return np.full(1, gradient if x[0] < 0.5 else 1.0)

    both = fun if separate else (lambda x: (fun(x), jac(x)))
    given = jac if separate else True
    found = minimize(methods.sgd, both, [1.1], jac=given, options={"lr": 0.25})
    assert (found.status, found.success, found.nit) == (3, False, 3)
    assert "not finite" in found.message
    assert (found.x.tolist(), found.fun) == ([pytest.approx(0.6)], pytest.approx(0.6))
    assert found.jac.tolist() == [1.0]
    at_once = minimize(methods.sgd, both, [0.2], jac=given, options={"lr": 0.25})
    assert (at_once.status, at_once.nit, at_once.x.tolist()) == (3, 0, [0.2])


def test_a_diverging_run_ends_without_an_exception() -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        found = minimize(methods.sgd, Bowl().both, jac=True, options={"lr": 1e3})
    assert (found.status, found.x.tolist()) == (3, [0.0, 0.0, 0.0])


def test_a_gradient_whose_square_overflows_ends_the_run_unless_it_is_clipped() -> None:
    def steep(x: Any) -> tuple[float, Any]:
        return float(x[0]), np.full(1, 1e200)

    found = minimize(methods.adam, steep, [1.0], jac=True)
    assert (found.status, found.nit, found.fun) == (3, 0, 1.0)
    assert "overflows" in found.message
    clipped = minimize(
        methods.adam, steep, [1.0], jac=True, options={"max_norm": 1.0, "maxiter": 3}
    )
    assert (clipped.status, clipped.nit) == (1, 3)


def test_display_prints_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    found = minimize(methods.sgd, Bowl().both, jac=True, options={"lr": 0.2, "disp": True})
    printed = capsys.readouterr().out
    assert printed.startswith(found.message)
    assert f"Iterations: {found.nit}\n" in printed
    assert f"Function evaluations: {found.nfev}\n" in printed


@pytest.mark.parametrize("key", ["hess", "hessp"])
def test_second_derivatives_are_not_used_and_the_warning_points_at_the_call(key: str) -> None:
    with pytest.warns(RuntimeWarning, match=f"adamw does not use {key}") as caught:
        optimize.minimize(
            Bowl().both, [0.0] * 3, jac=True, method=methods.adamw, **{key: lambda *_: np.eye(3)}
        )
    assert caught[0].filename == __file__


@pytest.mark.parametrize("constraints", [(), [], None])
def test_empty_constraints_are_accepted(constraints: Any) -> None:
    assert minimize(methods.adam, Bowl().both, jac=True, constraints=constraints).success


def test_an_objective_with_a_method_gradient_is_not_mistaken_for_a_pair() -> None:
    class Model:
        def fun(self, _: Any) -> float:
            raise AssertionError

        def __call__(self, x: Any) -> float:
            return float(x @ x)

        def gradient(self, x: Any) -> Any:
            return 2 * x

    model = Model()
    options = {"lr": 0.1}
    assert minimize(methods.adam, model, [1.0], jac=model.gradient, options=options).success


@pytest.mark.parametrize("method", [methods.adamw, methods.adam, methods.sgdw, methods.sgd])
def test_an_exception_of_the_objective_passes_through(method: Any) -> None:
    def broken(_: Any) -> float:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        minimize(method, broken, options={"lr": 0.1})


def test_types_and_defaults_list_the_same_options() -> None:
    assert set(Options.__annotations__) == {"tol", *(field.name for field in fields(Settings))}


def test_the_arguments_are_those_that_minimize_passes() -> None:
    passed = {"fun", "x0", "args", "jac", "hess", "hessp", "bounds", "constraints", "callback"}
    for name in methods.__all__:
        assert passed < set(inspect.signature(getattr(methods, name)).parameters)

"""`scipy.optimize.minimize` with the methods of `thalweg.scipy`: minima, paths and decay."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

import thalweg
from thalweg import schedule

optimize = pytest.importorskip("scipy.optimize")

import thalweg.scipy as methods  # noqa: E402 - only where SciPy is

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent

METHODS: dict[str, dict[str, Any]] = {
    "adamw": {"lr": 0.05},
    "adam": {"lr": 0.05},
    "sgdw": {"lr": 1e-3, "momentum": 0.9},
    "sgd": {"lr": 1e-3, "momentum": 0.9},
}


@pytest.fixture(params=METHODS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Case(NamedTuple):
    """A test function of optimization: value and gradient, start, and minimum."""

    fun: Callable[[Any], tuple[float, Any]]
    x0: list[float]
    minimum: list[float]
    value: float = 0.0


def sphere(x: Any) -> tuple[float, Any]:
    return x @ x, 2 * x


def rosenbrock(x: Any) -> tuple[float, Any]:
    return optimize.rosen(x), optimize.rosen_der(x)


def booth(x: Any) -> tuple[float, Any]:
    a, b = x[0] + 2 * x[1] - 7, 2 * x[0] + x[1] - 5
    return a**2 + b**2, np.array([2 * a + 4 * b, 4 * a + 2 * b])


def beale(x: Any) -> tuple[float, Any]:
    powers = np.arange(1, 4)
    r = np.array([1.5, 2.25, 2.625]) - x[0] * (1 - x[1] ** powers)
    dx = -(1 - x[1] ** powers)
    dy = x[0] * powers * x[1] ** (powers - 1)
    return r @ r, np.array([2 * r @ dx, 2 * r @ dy])


def himmelblau(x: Any) -> tuple[float, Any]:
    a, b = x[0] ** 2 + x[1] - 11, x[0] + x[1] ** 2 - 7
    return a**2 + b**2, np.array([4 * a * x[0] + 2 * b, 2 * a + 4 * b * x[1]])


def styblinski_tang(x: Any) -> tuple[float, Any]:
    return (x**4 - 16 * x**2 + 5 * x).sum() / 2, (4 * x**3 - 32 * x + 5) / 2


def ill_conditioned(x: Any) -> tuple[float, Any]:
    curvature = np.array([1.0, 10.0, 100.0])
    return curvature @ x**2 / 2, curvature * x


CASES = {
    "sphere": Case(sphere, [3.0, -2.0, 1.0], [0.0, 0.0, 0.0]),
    "rosenbrock": Case(rosenbrock, [-1.2, 1.0], [1.0, 1.0]),
    "booth": Case(booth, [0.0, 0.0], [1.0, 3.0]),
    "beale": Case(beale, [1.0, 1.0], [3.0, 0.5]),
    "himmelblau": Case(himmelblau, [0.0, 0.0], [3.0, 2.0]),
    "styblinski_tang": Case(styblinski_tang, [-1.0] * 3, [-2.903534] * 3, -39.166165 * 3),
    "ill_conditioned": Case(ill_conditioned, [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]),
}


def minimize(name: str, fun: Any, x0: Any, **arguments: Any) -> Any:
    """SciPy's `minimize` with the options of `METHODS` and the given ones."""
    arguments = {"jac": True, **arguments}
    options = {**METHODS[name], **arguments.pop("options", {})}
    return optimize.minimize(fun, x0, method=getattr(methods, name), options=options, **arguments)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_known_minima_are_found(name: str, case: Case) -> None:
    assert (
        optimize.check_grad(
            lambda x: case.fun(x)[0], lambda x: case.fun(x)[1], np.array(case.x0) + 0.1
        )
        < 1e-3
    )
    found = minimize(name, case.fun, case.x0)
    assert found.success
    assert found.status == 0
    assert np.abs(found.jac).max() <= 1e-5
    assert found.fun == pytest.approx(case.value, abs=1e-5)
    assert found.x == pytest.approx(case.minimum, abs=1e-3)
    value, gradient = case.fun(found.x)
    assert found.fun == value
    assert (found.jac == gradient).all()
    assert found.nfev == found.njev == found.nit + 1


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_defaults_find_the_minimum(case: Case) -> None:
    found = optimize.minimize(case.fun, case.x0, jac=True, method=methods.adamw)
    assert found.success
    assert found.x == pytest.approx(case.minimum, abs=1e-3)


CLASSES = {
    "adamw": thalweg.AdamW,
    "adam": thalweg.Adam,
    "sgdw": thalweg.SGDW,
    "sgd": thalweg.SGD,
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("adamw", {"lr": 0.02, "weight_decay": 0.1}),
    ("adamw", {"lr": 0.02, "weight_decay": 0.001, "independent": True, "amsgrad": True}),
    ("adamw", {"lr": 0.02, "weight_decay": 0.0, "betas": (0.8, 0.99), "eps": 1e-6}),
    ("adam", {"lr": 0.1 * schedule.cosine(total=60, warmup=5), "l2": 0.1}),
    ("adam", {"lr": lambda step: 0.1 / step, "betas": (lambda step: 1 - 1 / (1 + step), 0.99)}),
    ("sgdw", {"lr": 1e-4, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    ("sgdw", {"lr": 1e-4, "weight_decay": schedule.constant(1e-3), "independent": True}),
    ("sgd", {"lr": 1e-4, "momentum": 0.5, "dampening": 0.5, "l2": 0.1}),
]
LIMITS: list[dict[str, float]] = [{}, {"max_norm": 2.0}, {"max_value": 0.5}]


@pytest.mark.parametrize(("method", "hyperparameters"), VARIANTS)
@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_the_path_has_the_bits_of_a_plain_loop(
    method: str, hyperparameters: dict[str, Any], limit: dict[str, float]
) -> None:
    x = np.array([-1.2, 1.0, 0.3])
    opt = CLASSES[method](x, **hyperparameters)
    expected = []
    for _ in range(60):
        opt.step(optimize.rosen_der(x), **limit)
        expected.append(x.copy())
    path: list[Any] = []
    options = {**hyperparameters, **limit, "maxiter": 60, "stochastic": True}
    x0 = np.array([-1.2, 1.0, 0.3])
    found = optimize.minimize(
        rosenbrock,
        x0,
        jac=True,
        method=getattr(methods, method),
        callback=path.append,
        options=options,
    )
    assert np.array(path).tobytes() == np.array(expected).tobytes()
    assert found.x.tobytes() == x.tobytes()
    assert x0.tolist() == [-1.2, 1.0, 0.3]


def test_a_direct_call_is_the_same_as_one_through_minimize(name: str) -> None:
    through = minimize(name, booth, [0.0, 0.0], options={"maxiter": 50})
    direct = getattr(methods, name)(booth, [0.0, 0.0], jac=True, maxiter=50, **METHODS[name])
    assert through.keys() == direct.keys()
    assert all(np.array_equal(through[key], direct[key]) for key in through)


@pytest.mark.parametrize(
    ("method", "lr", "weight_decay", "independent", "rate"),
    [
        ("adamw", 0.1, 0.5, False, 0.05),
        ("sgdw", 0.1, 0.5, False, 0.05),
        ("adamw", 0.1, 0.02, True, 0.02),
        ("sgdw", 0.1, 0.02, True, 0.02),
    ],
)
def test_decay_alone_shrinks_by_its_rate(
    method: str, lr: float, weight_decay: float, independent: bool, rate: float
) -> None:
    x0 = np.array([3.0, -40.0])
    options = {"gtol": None, "maxiter": 25, "lr": lr}
    options |= {"weight_decay": weight_decay, "independent": independent}
    found = getattr(methods, method)(lambda _: (0.0, np.zeros(2)), x0, jac=True, **options)
    assert found.x == pytest.approx(x0 * (1 - rate) ** 25, rel=1e-13)


def test_the_default_has_no_decay_and_decay_moves_the_minimum() -> None:
    def bowl(x: Any) -> tuple[float, Any]:
        return (x - 3.0) @ (x - 3.0) / 2, x - 3.0

    options = {"lr": 0.1, "gtol": None, "ftol": None, "maxiter": 2000, "stochastic": True}
    plain = methods.sgdw(bowl, [0.0], jac=True, **options)
    decayed = methods.sgdw(bowl, [0.0], jac=True, weight_decay=0.5, **options)
    assert plain.x == pytest.approx(3.0)
    assert decayed.x == pytest.approx(3.0 / (1 + 0.5))  # where x - 3 + 0.5·x is zero


def test_decay_keeps_adamw_within_one_over_decay() -> None:
    """At 1/decay, the decay balances the update by the sign of a constant gradient."""
    options = {"lr": 0.1, "weight_decay": 0.5, "maxiter": 500, "stochastic": True}
    found = methods.adamw(lambda x: (-x.sum(), -np.ones(2)), [0.0, 5.0], jac=True, **options)
    assert found.x == pytest.approx([2.0, 2.0], rel=1e-6)


def test_the_l2_penalty_is_not_in_the_value() -> None:
    found = methods.sgd(sphere, [1.0], jac=True, lr=0.1, l2=2.0, maxiter=1)
    assert found.x == pytest.approx([1 - 0.1 * (2 + 2)])
    assert found.fun == found.x @ found.x


def test_other_solvers_of_scipy_can_use_the_methods() -> None:
    rng = np.random.default_rng(0)
    minimizer = {"method": methods.adamw, "jac": True, "options": {"lr": 0.1, "maxiter": 500}}
    found = optimize.basinhopping(
        styblinski_tang,
        [2.0, 2.0],
        niter=20,
        T=0.0,
        take_step=lambda x: x + rng.uniform(-3.0, 3.0, 2),
        minimizer_kwargs=minimizer,
    )
    assert found.x == pytest.approx([-2.903534] * 2, abs=1e-3)


def test_the_example_reaches_its_stated_results() -> None:
    main = runpy.run_path(str(ROOT / "examples" / "scipy_digits.py"))["main"]
    figures = main()
    assert figures["L-BFGS-B"].accuracy > 0.965
    assert figures["adamw"].accuracy == pytest.approx(figures["L-BFGS-B"].accuracy, abs=0.004)
    assert abs(figures["adamw"].objective - figures["L-BFGS-B"].objective) < 1e-5
    assert figures["adamw, mini-batches"].accuracy > 0.955
    assert figures["adamw, mini-batches"].objective < 0.265
    assert figures["L-BFGS-B, mini-batches"].objective > 0.35

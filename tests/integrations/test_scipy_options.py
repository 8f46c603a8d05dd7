"""Options of `thalweg.scipy`: those of SciPy, skipped samples, learning rates by variable."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import thalweg
from thalweg import schedule

optimize = pytest.importorskip("scipy.optimize")

from scipy_methods import CENTRE, METHODS, Bowl, minimize  # noqa: E402 - as above

import thalweg.scipy as methods  # noqa: E402 - only where SciPy is


@pytest.mark.parametrize(
    "wrong",
    [
        {"maxiter": -1},
        {"maxiter": float("nan")},
        {"maxiter": "5"},
        {"n_iter_no_change": 0},
        {"gtol": -1.0},
        {"ftol": float("nan")},
        {"gtol": "1e-5"},
        {"disp": "yes"},
        {"stochastic": 1},
        {"max_norm": 0.0},
        {"max_norm": 1.0, "max_value": 1.0},
        {"lr": -0.1},
        {"lr": schedule.cosine},
        {"lr": [0.1, 0.1]},
        {"lr": [[0.1, 0.1, 0.1]]},
        {"lr": [0.1, -0.1, 0.1]},
        {"lr": [0.1, 0.1, "0.1"]},
        {"lr": np.array([0.1, np.inf, 0.1])},
        {"lr": [0.1, schedule.cosine, 0.1]},
        {"maximize": True},
        {"weight_decay": 0.1},
        {"betas": (0.9, 0.999)},
        {"groups": []},
        {"nonfinite": "skip"},
        {"nonfinite": "raise", "stochastic": True},
        {"stochastic": True, "ftol": 1e-3},
        {"finite_diff_rel_step": 1e-3},
    ],
    ids=str,
)
def test_wrong_options_are_refused_before_the_objective_is_called(wrong: dict[str, Any]) -> None:
    bowl = Bowl()
    with pytest.raises((TypeError, ValueError)) as caught:
        minimize(methods.sgd, bowl.both, jac=True, options={"lr": 0.1, **wrong})
    assert next(iter(wrong)) in str(caught.value)
    assert bowl.calls == 0


@pytest.mark.parametrize("maxiter", [7, 7.0, 6.5, np.int64(7), np.float32(7.0), True], ids=repr)
def test_maxiter_means_the_same_as_in_scipy(maxiter: Any) -> None:
    options = {"maxiter": maxiter}
    runs = [
        minimize(method, optimize.rosen, [-1.2, 1.0], options=options)
        for method in ("BFGS", methods.adam)
    ]
    assert runs[0].nit == runs[1].nit
    assert runs[0].status == runs[1].status == 1


@pytest.mark.parametrize("maxiter", [None, 1e3, np.inf])
def test_a_limit_that_is_not_reached_changes_nothing(maxiter: Any) -> None:
    options = {"lr": 0.2, "maxiter": maxiter}
    assert minimize(methods.sgd, Bowl().both, jac=True, options=options).success


@pytest.mark.parametrize("disp", [True, 1, 2, np.True_, False, 0])
def test_display_may_be_a_level(disp: Any, capsys: pytest.CaptureFixture[str]) -> None:
    minimize(methods.sgd, Bowl().both, jac=True, options={"lr": 0.2, "disp": disp})
    assert bool(capsys.readouterr().out) == bool(disp)


OF_OTHERS = [
    ({"return_all": True}, "L-BFGS-B"),
    ({"workers": 2}, "Nelder-Mead"),
    ({"maxfun": 10, "maxfev": 10}, "BFGS"),
    ({"eps": 1e-8}, "Nelder-Mead"),
]


@pytest.mark.parametrize(("options", "without"), OF_OTHERS, ids=str)
def test_options_of_other_methods_give_the_warning_of_scipy(
    options: dict[str, Any], without: str
) -> None:
    plain = minimize(methods.sgd, Bowl().both, jac=True, options={"lr": 0.2})
    with pytest.warns(optimize.OptimizeWarning) as caught:
        found = optimize.minimize(
            Bowl().both, [0.0] * 3, jac=True, method=methods.sgd, options={"lr": 0.2, **options}
        )
    assert found.x.tobytes() == plain.x.tobytes()
    with warnings.catch_warnings(record=True) as scipy_s:
        warnings.simplefilter("always")
        minimize(without, Bowl().value, options=options)
    assert str(caught[0].message) == str(scipy_s[-1].message)
    assert caught[0].filename == __file__


def test_a_misspelled_option_is_warned_of_with_a_suggestion() -> None:
    with pytest.warns(optimize.OptimizeWarning, match=r"max_iter \(did you mean 'maxiter'\?\)"):
        minimize(methods.adam, Bowl().both, CENTRE, jac=True, options={"max_iter": 5})


class Noisy:
    """Gradients of a bowl that grow with each call; the calls in `at` return `bad` instead."""

    def __init__(self, bad: Any, at: set[int]) -> None:
        self.bad = bad
        self.at = at
        self.calls = 0
        self.used: list[Any] = []

    def __call__(self, x: Any) -> tuple[float, Any]:
        self.calls += 1
        if self.calls in self.at:
            return self.bad[0], np.full(3, self.bad[1])
        self.used.append((x - CENTRE) * self.calls)
        return float(self.calls), self.used[-1]


BAD = [(np.nan, np.nan), (np.nan, 1.0), (np.inf, 1.0), (1.0, np.inf)]
UNUSABLE = [(*method.values, bad) for method in METHODS for bad in BAD]
# Only Adam squares the gradient.
UNUSABLE += [(*method.values, (1.0, 1e200)) for method in METHODS[:2]]


@pytest.mark.parametrize(
    ("method", "lr", "bad"), UNUSABLE, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_unusable_samples_are_skipped(method: Any, lr: float, bad: Any) -> None:
    """The points are those of a loop over the usable samples."""
    rate = lr * schedule.cosine(total=20)
    points: list[Any] = []
    sampled = Noisy(bad, at={1, 2, 8, 13, 14, 24})
    options = {"lr": rate, "maxiter": 20, "stochastic": True, "nonfinite": "skip"}
    found = minimize(method, sampled, jac=True, callback=points.append, options=options)
    assert (found.status, found.nit, found.nfev, found.nskip) == (1, 20, 27, 6)
    assert found.message.startswith("The maximum number of iterations was reached. Samples skipped")
    assert found.message.endswith(": 6.")
    assert found.fun == sampled.calls == 27
    assert len(points) == 20

    x = np.zeros(3)
    name = method.__name__
    kinds = {"adamw": thalweg.AdamW, "adam": thalweg.Adam, "sgdw": thalweg.SGDW}
    decay = {"weight_decay": 0.0} if name.endswith("w") else {}
    opt = kinds.get(name, thalweg.SGD)(x, rate, **decay)
    for gradient in sampled.used[:-1]:
        opt.step(gradient)
    assert found.x.tobytes() == x.tobytes()


def test_a_series_of_unusable_samples_ends_the_run() -> None:
    options = {"maxiter": 50, "stochastic": True, "nonfinite": "skip", "n_iter_no_change": 5}
    sampled = Noisy((np.nan, np.nan), at={4, 5, *range(9, 100)})
    found = minimize(methods.adam, sampled, jac=True, options=options)
    assert (found.status, found.success, found.nit) == (3, False, 6)
    assert (found.nskip, found.nfev) == (7, 13)
    assert "None of n_iter_no_change" in found.message
    assert found.fun == 8.0
    none = minimize(methods.adam, Noisy((np.nan, np.nan), {*range(100)}), jac=True, options=options)
    assert (none.status, none.nit, none.nskip, none.x.tolist()) == (3, 0, 5, [0.0, 0.0, 0.0])
    assert np.isnan(none.fun)


def test_without_the_option_the_first_bad_sample_ends_the_run() -> None:
    options = {"maxiter": 50, "stochastic": True}
    found = minimize(methods.adam, Noisy((1.0, np.nan), at={4}), jac=True, options=options)
    assert (found.status, found.nit) == (3, 3)
    assert "nskip" not in found


RATES = {
    "each its own": [0.1, 1e-3, 0.02],
    "an array": np.array([0.1, 1e-3, 1e-3]),
    "integers": np.array([1, 0, 1]),
    "equal": (0.05, 0.05, 0.05),
    "schedules": [0.1, 0.1 * schedule.cosine(total=30), 0.1 * schedule.cosine(total=30)],
    "functions": [lambda step: 0.1 / step, 0.1, lambda step: 0.2 / step],
}


@pytest.mark.parametrize("rates", RATES.values(), ids=RATES)
@pytest.mark.parametrize("limit", [{}, {"max_norm": 2.0}, {"max_value": 0.5}], ids=str)
@pytest.mark.parametrize(
    ("method", "kind", "options"),
    [
        (methods.adamw, thalweg.AdamW, {"weight_decay": 0.1}),
        (methods.sgdw, thalweg.SGDW, {"weight_decay": 0.01, "momentum": 0.9}),
        (methods.adam, thalweg.Adam, {"amsgrad": True}),
    ],
)
def test_rates_by_variable_have_the_bits_of_a_loop_over_views(
    method: Any, kind: Any, options: dict[str, Any], limit: dict[str, float], rates: Any
) -> None:
    x = np.array([-0.3, 0.5, 0.2])
    cuts = [1, 2]
    # The norm's last bit depends on the split, and the method has one array per run of equal rates.
    if "max_norm" in limit:
        cuts = [i for i in cuts if rates[i] != rates[i - 1]]
    groups = [{"match": str(k), "lr": rates[i]} for k, i in enumerate([0, *cuts])]
    opt = kind(np.split(x, cuts), lr=0.0, groups=groups, **options)
    expected = []
    for _ in range(30):
        gradient = Bowl().gradient(x.copy())
        opt.step(np.split(gradient, cuts), **limit)
        expected.append(x.copy())
    path: list[Any] = []
    options = {**options, **limit, "lr": rates, "maxiter": 30, "stochastic": True}
    x0 = [-0.3, 0.5, 0.2]
    found = minimize(method, Bowl().both, x0, jac=True, callback=path.append, options=options)
    assert np.array(path).tobytes() == np.array(expected).tobytes()
    assert found.x.tobytes() == x.tobytes()


def test_rates_by_variable_fit_variables_of_different_scale() -> None:
    scale = np.array([1.0, 1e-3, 1e3])

    def fun(x: Any) -> tuple[float, Any]:
        return (((x - scale) / scale) ** 2).sum(), 2 * (x - scale) / scale**2

    options = {"lr": 0.1 * scale, "gtol": None, "maxiter": 2000}
    found = minimize(methods.adam, fun, jac=True, options=options, bounds=[(0.0, None)] * 3)
    assert found.x == pytest.approx(scale)


def test_a_problem_without_variables_accepts_an_empty_list_of_rates() -> None:
    assert methods.adam(lambda x: (2.0, x), [], jac=True, lr=[], gtol=None, maxiter=2).nit == 2

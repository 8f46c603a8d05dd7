"""`thalweg.sklearn` has the losses of scikit-learn's estimators and keeps its conventions."""

from __future__ import annotations

import copy
import pickle
import re
import runpy
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
import sklearn.neural_network as theirs
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import thalweg
from thalweg import schedule
from thalweg import sklearn as ours
from thalweg.sklearn import MLPClassifier, MLPRegressor, epsilon_hat

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]

DIGITS, DIGIT = load_digits(return_X_y=True)
DIGITS, DIGIT = DIGITS[:400] / 16.0, DIGIT[:400]
PATIENTS, PROGRESS = load_diabetes(return_X_y=True)
PATIENTS, PROGRESS = StandardScaler().fit_transform(PATIENTS), (PROGRESS - 152.0) / 77.0

SMALL = {"hidden_layer_sizes": (16,), "max_iter": 5, "random_state": 0}

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning"  # a few passes are enough for these tests
)


CHECKS = [
    pytest.param(estimator, check, id=f"{type(estimator).__name__}-{check.func.__name__}")
    for kind in (MLPClassifier, MLPRegressor)
    for estimator, check in estimator_checks_generator(kind())
]


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_estimators_pass_the_checks_of_scikit_learn(
    estimator: Any, check: Callable[[Any], None]
) -> None:
    check(estimator)


TASKS = {
    "multiclass": ("MLPClassifier", DIGITS, DIGIT, {}),
    "binary": ("MLPClassifier", DIGITS, DIGIT > 4, {}),
    "multilabel": ("MLPClassifier", DIGITS, np.stack([DIGIT > 4, DIGIT % 2 == 0], 1), {}),
    "sparse": ("MLPClassifier", sparse.csr_array(DIGITS), DIGIT, {}),
    "regression": ("MLPRegressor", PATIENTS, PROGRESS, {}),
    "outputs": ("MLPRegressor", PATIENTS, np.stack([PROGRESS, -PROGRESS], 1), {}),
    "counts": ("MLPRegressor", PATIENTS, np.round(PROGRESS + 3.0), {"loss": "poisson"}),
}
ADAM = {"solver": "adam", "learning_rate_init": 3e-3}
SGD = {"solver": "sgd", "learning_rate_init": 0.05}
ADAPTIVE = {**SGD, "learning_rate": "adaptive", "momentum": 0.0, "n_iter_no_change": 2, "tol": 0.02}
RULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "adam": (ADAM, {"epsilon": epsilon_hat(1e-8)}),
    "adam with other values": (
        {**ADAM, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-4},
        {"epsilon": epsilon_hat(1e-4, beta_2=0.95)},
    ),
    "adamw without decay": (
        ADAM,
        {"solver": "adamw", "weight_decay": 0.0, "epsilon": epsilon_hat(1e-8)},
    ),
    "sgd with nesterov": (SGD, {}),
    "sgd with momentum": ({**SGD, "nesterovs_momentum": False}, {}),
    "sgd without momentum": ({**SGD, "momentum": 0.0}, {}),
    "sgd with momentum 1": ({**SGD, "momentum": 1.0, "learning_rate_init": 1e-3}, {}),
    "sgdw without decay": (SGD, {"solver": "sgdw", "weight_decay": 0.0}),
    "adaptive": (ADAPTIVE, {}),
}
CASES = [("adam", task) for task in TASKS] + [
    (rule, task) for rule in [*RULES][1:] for task in ("multiclass", "regression")
]
COMMON = {"hidden_layer_sizes": (16, 8), "alpha": 1e-2, "max_iter": 15, "random_state": 0}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("rule", "task"), CASES)
def test_each_rule_has_the_losses_of_scikit_learn(rule: str, task: str, dtype: type) -> None:
    kind, x, y, options = TASKS[task]
    shared, mine = RULES[rule]
    x = x.astype(dtype)
    wanted = getattr(theirs, kind)(**COMMON, **shared, **options).fit(x, y)
    got = getattr(ours, kind)(**{**COMMON, **shared, **options, **mine}).fit(x, y)

    tolerance = 1e-11 if dtype == np.float64 else 1e-4
    assert len(wanted.loss_curve_) > 5
    np.testing.assert_allclose(got.loss_curve_, wanted.loss_curve_, rtol=tolerance)
    np.testing.assert_allclose(got.best_loss_, wanted.best_loss_, rtol=tolerance)
    for mine_, theirs_ in zip(
        got.coefs_ + got.intercepts_, wanted.coefs_ + wanted.intercepts_, strict=True
    ):
        assert mine_.dtype == theirs_.dtype == dtype
        np.testing.assert_allclose(mine_, theirs_, rtol=0, atol=100 * tolerance)
    assert (got.n_iter_, got.t_, got.n_layers_) == (wanted.n_iter_, wanted.t_, wanted.n_layers_)


PARITY = {**COMMON, **ADAM}
HAT = {"epsilon": epsilon_hat(1e-8)}


def weights(estimator: Any) -> list[Any]:
    found: list[Any] = estimator.coefs_ + estimator.intercepts_
    return found


@pytest.mark.parametrize("learning_rate", ["constant", "adaptive"])
def test_the_current_rate_is_in_the_attribute_that_scikit_learn_uses(learning_rate: str) -> None:
    options = {**COMMON, **ADAPTIVE, "learning_rate": learning_rate}
    wanted = theirs.MLPClassifier(**options).fit(DIGITS, DIGIT)
    got = MLPClassifier(**options)
    assert not hasattr(got, "_optimizer")
    got.fit(DIGITS, DIGIT)
    assert (got._optimizer.learning_rate < 0.01) == (learning_rate == "adaptive")
    for model in (got, copy.deepcopy(got)):
        assert model._optimizer.learning_rate == pytest.approx(wanted._optimizer.learning_rate)


def test_the_current_rate_follows_schedules_and_assignments() -> None:
    model = MLPClassifier(**SMALL, learning_rate_init=lambda step: 1 / step).fit(DIGITS, DIGIT)
    assert model._optimizer.learning_rate == 1 / 10
    model.optimizer_.lr = 0.5
    model.optimizer_.groups[0].lr_scale = 0.5
    assert model._optimizer.learning_rate == 0.25


@pytest.mark.parametrize(
    "options", [{"early_stopping": True}, {"shuffle": False, "batch_size": 64}, {"tol": 0.05}]
)
def test_the_training_loop_is_that_of_scikit_learn(options: dict[str, Any]) -> None:
    weight = np.linspace(0.5, 1.5, 400)
    options = {**PARITY, **options, "n_iter_no_change": 3}
    wanted = theirs.MLPClassifier(**options).fit(DIGITS, DIGIT, sample_weight=weight)
    got = MLPClassifier(**options, **HAT).fit(DIGITS, DIGIT, sample_weight=weight)
    np.testing.assert_allclose(got.loss_curve_, wanted.loss_curve_, rtol=1e-9)
    assert got.validation_scores_ == wanted.validation_scores_
    assert got.best_validation_score_ == wanted.best_validation_score_
    np.testing.assert_allclose(weights(got)[0], weights(wanted)[0], rtol=0, atol=1e-8)


def test_partial_fit_and_warm_start_are_those_of_scikit_learn() -> None:
    wanted = theirs.MLPClassifier(**PARITY, warm_start=True)
    got = MLPClassifier(**PARITY, **HAT, warm_start=True)
    for model in (wanted, got):
        for rows in np.array_split(np.arange(400), 4):
            model.partial_fit(DIGITS[rows], DIGIT[rows], classes=range(10))
        model.fit(DIGITS, DIGIT)  # a warm start, with a new optimizer
    np.testing.assert_allclose(got.loss_curve_, wanted.loss_curve_, rtol=1e-9)
    assert got.optimizer_.step_count == 15 * 2


def test_partial_fit_continues_with_the_same_optimizer() -> None:
    model = MLPRegressor(**SMALL).partial_fit(PATIENTS, PROGRESS)
    optimizer, arrays = model.optimizer_, weights(model)
    optimizer.lr = 0.5  # edited between calls
    model.partial_fit(PATIENTS, PROGRESS)
    assert model.optimizer_ is optimizer
    assert (optimizer.step_count, optimizer.lr) == (6, 0.5)
    assert all(a is b for a, b in zip(weights(model), arrays, strict=True))


SOLVERS = {
    "adamw": thalweg.AdamW,
    "adam": thalweg.Adam,
    "sgdw": thalweg.SGDW,
    "sgd": thalweg.SGD,
}


@pytest.mark.parametrize("solver", SOLVERS)
def test_parameters_reach_the_optimizer(solver: str) -> None:
    model = MLPClassifier(**SMALL, solver=solver, learning_rate_init=0.01, weight_decay=0.3)
    model.set_params(beta_1=0.8, beta_2=0.9, epsilon=1e-6, amsgrad=True, momentum=0.7)
    optimizer = model.fit(DIGITS, DIGIT).optimizer_
    assert type(optimizer) is SOLVERS[solver]
    found = optimizer.resolve("coefs.1")
    assert found["lr"] == 0.01
    assert found.get("weight_decay") == (0.3 if solver.endswith("w") else None)
    assert optimizer.resolve("intercepts.1").get("weight_decay", 0.0) == 0.0
    if "adam" in solver:
        assert (found["betas"], found["eps"]) == ((0.8, 0.9), 1e-6)
        assert "max_exp_avg_sq" in optimizer.state["coefs.0"]
    else:
        assert found["momentum"] == 0.7
        assert optimizer.state_dict()["options"]["nesterov"]


def test_decay_acts_on_weights_alone_and_does_not_depend_on_the_batch_size() -> None:
    """With zero gradients, a step is the decay alone."""
    still = {"solver": "adamw", "learning_rate_init": 0.1, "weight_decay": 0.5, "max_iter": 1}
    for batch_size in (10, 40):
        options = {**SMALL, **still, "batch_size": batch_size}
        model = MLPRegressor(**options).partial_fit(np.zeros((40, 3)), np.zeros(40))
        before = [array.copy() for array in weights(model)]
        for array in (*model.intercepts_, model.coefs_[1]):
            array[...] = 0.0  # the output is zero, and so are all gradients
        model.optimizer_.reset()
        model.partial_fit(np.zeros((40, 3)), np.zeros(40))
        steps = 40 // batch_size
        np.testing.assert_allclose(model.coefs_[0], before[0] * 0.95**steps)
        assert not model.intercepts_[0].any()


def test_given_groups_override_the_group_of_the_intercepts() -> None:
    groups = [
        {"match": "*.1", "lr_scale": 0.1, "weight_decay": 0.25},
        {"match": "coefs.0", "frozen": True},
    ]
    model = MLPClassifier(**SMALL, groups=groups, warm_start=True)
    first = MLPClassifier(**{**SMALL, "max_iter": 1, "learning_rate_init": 1e-300})
    first.fit(DIGITS, DIGIT)
    optimizer = model.fit(DIGITS, DIGIT).optimizer_
    assert np.array_equal(model.coefs_[0], first.coefs_[0])  # the initial values
    assert not np.array_equal(model.coefs_[1], first.coefs_[1])
    assert optimizer.resolve("intercepts.1")["weight_decay"] == 0.25
    assert optimizer.resolve("intercepts.0")["weight_decay"] == 0.0
    assert optimizer.groups[1].name == "intercepts"


def test_max_norm_clips_gradients() -> None:
    options = {**SMALL, "solver": "sgd", "momentum": 0.0, "learning_rate_init": 1.0, "max_iter": 1}
    options["batch_size"] = 400
    free = MLPClassifier(**options).fit(DIGITS, DIGIT)
    limited = MLPClassifier(**options, max_norm=1e-3).fit(DIGITS, DIGIT)
    start = MLPClassifier(**{**options, "learning_rate_init": 1e-300}).fit(DIGITS, DIGIT)

    def moved(model: Any) -> float:
        return thalweg.functional.global_norm(
            [a - b for a, b in zip(weights(model), weights(start), strict=True)]
        )

    assert moved(limited) == pytest.approx(1e-3)
    assert moved(free) > 0.01


def test_schedules_are_called_with_the_step() -> None:
    seen = []

    def rate(step: int) -> float:
        seen.append(step)
        return 1e-3

    MLPClassifier(**SMALL, learning_rate_init=rate).fit(DIGITS, DIGIT)
    assert seen == [*range(1, 11)]  # 5 passes of 2 batches


def is_live(model: Any) -> bool:
    """Whether the optimizer updates the very arrays of the network in place."""
    optimizer, arrays = model.optimizer_, weights(model)
    before = [array.copy() for array in arrays]
    optimizer.step({name: np.ones_like(array) for name, array in optimizer.params.items()})
    moved = all((a != b).any() for a, b in zip(arrays, before, strict=True))
    return moved and all(
        a is b for a, b in zip(arrays, model.optimizer_.params.values(), strict=True)
    )


def replaced(model: Any) -> Any:
    model.coefs_ = [array.copy() for array in model.coefs_]
    return model


def replaced_one(model: Any) -> Any:
    model.intercepts_[0] = model.intercepts_[0].copy()
    return model


def dumped(model: Any, path: Path) -> Any:
    joblib.dump(model, path / "model.joblib")
    return joblib.load(path / "model.joblib")


WAYS: dict[str, Callable[[Any, Path], Any]] = {
    "fit": lambda model, _: model,
    "fit again": lambda model, _: model.fit(DIGITS, DIGIT),
    "warm start": lambda model, _: model.set_params(warm_start=True).fit(DIGITS, DIGIT),
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),  # noqa: S301 - our own
    "pickle twice": lambda model, _: pickle.loads(  # noqa: S301
        pickle.dumps(pickle.loads(pickle.dumps(model)))  # noqa: S301
    ),
    "deepcopy": lambda model, _: copy.deepcopy(model),
    "joblib": dumped,
    "replaced arrays": lambda model, _: replaced(model),
    "a replaced array": lambda model, _: replaced_one(model),
    "pickle of replaced": lambda model, _: pickle.loads(pickle.dumps(replaced(model))),  # noqa: S301
}


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_the_optimizer_trains_the_arrays_of_the_network(
    way: str, early_stopping: bool, tmp_path: Path
) -> None:
    model = MLPClassifier(**SMALL, early_stopping=early_stopping, validation_fraction=0.2)
    model = WAYS[way](model.fit(DIGITS, DIGIT), tmp_path)
    assert model.optimizer_.step_count == 10
    assert is_live(model)
    if not early_stopping:  # with early stopping, scikit-learn refuses partial_fit
        model.partial_fit(DIGITS, DIGIT)
        assert model.optimizer_.step_count == 10 + 1 + 2
        assert is_live(model)


WILD = {**PARITY, "early_stopping": True, "max_iter": 25, "n_iter_no_change": 25}


def test_early_stopping_restores_the_best_weights() -> None:
    options = {**WILD, "learning_rate_init": 0.2}
    wanted = theirs.MLPClassifier(**options).fit(DIGITS, DIGIT)
    got = MLPClassifier(**options, **HAT).fit(DIGITS, DIGIT)
    assert got.validation_scores_[-1] < got.best_validation_score_
    np.testing.assert_allclose(weights(got)[0], weights(wanted)[0], rtol=0, atol=1e-9)


def test_a_warm_start_keeps_the_best_weights_and_the_arrays() -> None:
    model = MLPClassifier(**WILD, warm_start=True).fit(DIGITS, DIGIT)
    arrays = weights(model)
    best = [array.copy() for array in arrays]
    model.set_params(learning_rate_init=10.0).fit(DIGITS, DIGIT)
    assert all(a is b for a, b in zip(weights(model), arrays, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(arrays, best, strict=True))


def test_a_copy_is_independent_and_continues_with_the_same_bits() -> None:
    model = MLPClassifier(**SMALL).partial_fit(DIGITS, DIGIT, classes=range(10))
    other = copy.deepcopy(model)
    before = [array.copy() for array in weights(other)]
    model.partial_fit(DIGITS, DIGIT)
    assert all(np.array_equal(a, b) for a, b in zip(weights(other), before, strict=True))
    other.partial_fit(DIGITS, DIGIT)
    assert all(np.array_equal(a, b) for a, b in zip(weights(other), weights(model), strict=True))


def test_a_model_over_read_only_arrays_predicts(tmp_path: Path) -> None:
    """joblib makes arrays read-only for its workers and with `mmap_mode`."""
    model = MLPClassifier(**SMALL).fit(DIGITS, DIGIT)
    joblib.dump(model, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert np.array_equal(loaded.predict(DIGITS), model.predict(DIGITS))
    again = pickle.loads(pickle.dumps(loaded))  # noqa: S301 - our own
    assert again.optimizer_.step_count == 10
    with pytest.raises(ValueError, match=r"coefs\.0"):
        loaded.partial_fit(DIGITS, DIGIT)


def test_clones_are_equal_and_unfitted() -> None:
    lr = 1e-2 * schedule.cosine(total=100, warmup=10)
    groups = [{"match": "coefs.*", "weight_decay": 0.5}, thalweg.no_decay()]
    model = MLPClassifier(**SMALL, learning_rate_init=lr, groups=groups, **HAT).fit(DIGITS, DIGIT)
    other = clone(model)
    assert other.get_params() == model.get_params()
    assert repr(other) == repr(model)
    assert not hasattr(other, "optimizer_")
    with pytest.raises(NotFittedError):
        _ = other.optimizer_


def test_a_grid_search_over_a_pipeline_works() -> None:
    grid = {
        "mlpclassifier__weight_decay": [0.0, 0.5],
        "mlpclassifier__learning_rate_init": [1e-3, 3e-2 * schedule.cosine(total=50)],
    }
    model = make_pipeline(MinMaxScaler(), MLPClassifier(**{**SMALL, "max_iter": 25}))
    search = GridSearchCV(model, grid, cv=2, n_jobs=2).fit(DIGITS, DIGIT)
    assert search.best_score_ > 0.8
    assert search.best_estimator_[-1].optimizer_.step_count == 50


def test_fit_changes_no_parameter() -> None:
    model = MLPClassifier(**SMALL, groups=[{"match": "coefs.0", "lr_scale": 0.5}])
    before = copy.deepcopy(model.get_params())
    model.fit(DIGITS, DIGIT)
    assert model.get_params() == before
    assert model.groups == [{"match": "coefs.0", "lr_scale": 0.5}]


def interrupted(_: int) -> float:
    raise SystemExit("by the user")  # scikit-learn takes KeyboardInterrupt as the end of the fit


REFUSED: list[tuple[dict[str, Any], type[BaseException], str]] = [
    ({"solver": "lbfgs"}, ValueError, "solver"),
    ({"learning_rate": "invscaling"}, ValueError, "schedule"),
    ({"learning_rate_init": 0.0}, ValueError, "learning_rate_init"),
    ({"weight_decay": -1.0}, ValueError, "weight_decay"),
    ({"beta_2": 1.0}, ValueError, "beta_2"),
    ({"momentum": 1.5}, ValueError, "momentum"),
    ({"max_norm": 0.0}, ValueError, "max_norm"),
    ({"groups": "coefs.0"}, ValueError, "groups"),
    ({"groups": [{"match": "coefs.9", "frozen": True}]}, ValueError, r"groups\[0\] matches"),
    ({"groups": [{"match": "coefs.0", "l2": 0.1}]}, TypeError, "weight_decay"),
    ({"learning_rate_init": schedule.cosine}, TypeError, "class"),
    ({"learning_rate_init": lambda _: float("nan")}, ValueError, "lr"),
    ({"learning_rate_init": interrupted}, SystemExit, "by the user"),
]


@pytest.mark.parametrize(("options", "kind", "match"), REFUSED)
def test_a_refusal_leaves_a_fitted_model_unchanged(
    options: dict[str, Any], kind: type[BaseException], match: str
) -> None:
    model = MLPClassifier(**SMALL).fit(DIGITS, DIGIT)
    arrays, steps = weights(model), model.optimizer_.step_count
    values = [array.copy() for array in arrays]
    attributes = {key: value for key, value in vars(model).items() if key not in options}
    with pytest.raises(kind, match=match):
        model.set_params(**options).fit(DIGITS[:, :9], DIGIT)
    assert {key: value for key, value in vars(model).items() if key not in options} == attributes
    assert all(a is b for a, b in zip(weights(model), arrays, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(arrays, values, strict=True))
    assert model.optimizer_.step_count == steps


DIVERGING = {
    "hidden_layer_sizes": (16, 8),
    "activation": "identity",
    "solver": "sgd",
    "learning_rate_init": 1e3,
    "max_iter": 20,
    "random_state": 0,
}


def ending(model: Any, x: Any, y: Any) -> tuple[str, str]:
    """The outcome of a fit: an exception by its common words, or whether it warned."""
    with np.errstate(all="ignore"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.fit(x, y)
        except ValueError as error:
            found = re.match("Solver produced non-finite parameter weights", str(error))
            return "ValueError", found[0] if found else str(error)
    return "fitted", str({w.category for w in caught} == {ConvergenceWarning})


@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("task", "factor"), [("multiclass", 100), ("regression", 100), ("outputs", 1), ("binary", 100)]
)
def test_a_diverging_fit_ends_as_in_scikit_learn(
    task: str, factor: int, dtype: type, early_stopping: bool
) -> None:
    kind, x, y, options = TASKS[task]
    x = (factor * x).astype(dtype)
    options = {**DIVERGING, **options, "early_stopping": early_stopping}
    wanted, got = getattr(theirs, kind)(**options), getattr(ours, kind)(**options, alpha=1e-4)
    outcome, words = ending(wanted, x, y)
    # scikit-learn scores the class that it predicts from NaN.
    if kind == "MLPClassifier" and early_stopping:
        words = "True"
    assert ending(got, x, y) == (outcome, words)
    assert outcome == ("fitted" if early_stopping else "ValueError")
    assert all(np.isfinite(array).all() for array in weights(got))
    if early_stopping:
        assert got.best_validation_score_ == pytest.approx(wanted.best_validation_score_)
        assert is_live(got)


def test_a_diverging_fit_stops_at_once_and_names_the_arrays() -> None:
    model = MLPRegressor(**{**DIVERGING, "learning_rate_init": 1.0}, early_stopping=True)
    x = 10 * PATIENTS
    with np.errstate(all="ignore"), pytest.warns(ConvergenceWarning) as caught:
        model.fit(x, PROGRESS)
    (warning,) = (str(w.message) for w in caught if w.category is ConvergenceWarning)
    assert "coefs.0" in warning
    assert f"step {model.optimizer_.step_count + 1} " in warning
    assert model.n_iter_ < 20
    assert np.isnan(model.validation_scores_[-1])
    assert np.isfinite(model.validation_scores_[:-1]).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_nonfinite_gradient_names_the_arrays_and_keeps_the_weights(solver: str) -> None:
    model = MLPRegressor(**SMALL, solver=solver).partial_fit(PATIENTS, PROGRESS)
    before = [array.copy() for array in weights(model)]
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"coefs\.0") as caught:
        model.partial_fit(PATIENTS * 1e200, PROGRESS)
    cause = caught.value.__cause__
    assert isinstance(cause, thalweg.NonFiniteError)
    assert "coefs.0" in cause.nonfinite
    assert cause.step == 4
    assert all(np.array_equal(a, b) for a, b in zip(weights(model), before, strict=True))
    model.partial_fit(PATIENTS, PROGRESS)
    assert model.optimizer_.step_count == 6


def test_verbose_prints_the_lines_of_scikit_learn(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for model in (theirs.MLPClassifier, MLPClassifier):
        for rule in (ADAPTIVE, {**SGD, "tol": 1.0, "n_iter_no_change": 2}):
            model(**COMMON, **rule, verbose=True).fit(DIGITS, DIGIT)
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert "Setting learning rate to" in told[0]
    assert told[0].count("Stopping.") >= 1


def test_the_convergence_warning_of_scikit_learn_is_given() -> None:
    with pytest.warns(ConvergenceWarning):
        MLPClassifier(**SMALL).fit(DIGITS, DIGIT)


@pytest.mark.parametrize(
    ("options", "match"), [({"epsilon": 0.0}, "epsilon"), ({"beta_2": 1.0}, "beta_2")]
)
def test_epsilon_hat_checks_its_options(options: dict[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        epsilon_hat(**options)


def test_epsilon_hat_is_a_value() -> None:
    assert epsilon_hat(1e-8) == epsilon_hat() == pickle.loads(pickle.dumps(epsilon_hat()))  # noqa: S301
    assert repr(epsilon_hat(1e-4, beta_2=0.9)) == "epsilon_hat(epsilon=0.0001, beta_2=0.9)"
    assert epsilon_hat(1e-3, 0.0)(1) == 1e-3


EXAMPLE = ROOT / "examples" / "sklearn_digits.py"


def test_the_example_has_the_accuracy_that_the_page_states() -> None:
    accuracy = runpy.run_path(str(EXAMPLE))["main"]()
    assert accuracy == pytest.approx(0.98, abs=0.01)

"""The estimators, with their parameters and the constraints on them."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn import neural_network
from sklearn.utils._param_validation import Interval, StrOptions

from thalweg.sklearn.training import DECOUPLED, PLAIN, ThalwegMixin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thalweg.groups.specified import Groups
    from thalweg.numbers import Number

__all__ = ["MLPClassifier", "MLPRegressor"]

ABSENT = {"power_t", "max_fun"}
"""scikit-learn's parameters for features that thalweg does not have: invscaling and L-BFGS."""

SHARE = [Interval(Real, 0, 1, closed="left"), callable]
CONSTRAINTS: dict[str, Any] = {
    "solver": [StrOptions({*DECOUPLED, *PLAIN})],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither"), callable],
    "weight_decay": [Interval(Real, 0, None, closed="left"), callable],
    "momentum": [Interval(Real, 0, 1, closed="both"), callable],
    "beta_1": SHARE,
    "beta_2": SHARE,
    "epsilon": [Interval(Real, 0, None, closed="neither"), callable],
    "amsgrad": ["boolean"],
    "groups": [list, tuple],
    "max_norm": [Interval(Real, 0, None, closed="neither"), None],
}


def constraints(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Constraints on parameters: those of scikit-learn, with ours added or replaced."""
    kept = {name: allowed for name, allowed in theirs.items() if name not in ABSENT}
    return {**kept, **CONSTRAINTS}


class MLPClassifier(ThalwegMixin, neural_network.MLPClassifier):
    """scikit-learn's ``MLPClassifier``, trained by thalweg.

    Networks, losses, methods, fitted attributes and all else that is not described here are those
    of `sklearn.neural_network.MLPClassifier`. Weights have the dtype of `X`, float32 or float64.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default (100,)
        Units of each hidden layer.
    activation : {"identity", "logistic", "tanh", "relu"}, default "relu"
        Activation of the hidden layers.
    solver : {"adamw", "adam", "sgdw", "sgd"}, default "adamw"
        Optimizer of thalweg. ``"adam"`` and ``"sgd"`` are the rules of scikit-learn's solvers with
        these names, and do not use `weight_decay`.
    alpha : float, default 0.0
        scikit-learn's penalty: ``alpha·Σw²/2`` over the weights, divided by the number of samples
        in the batch (the sum of their weights), is part of the loss and of its gradients, and so of
        the moments. scikit-learn's default is 1e-4.
    weight_decay : float or callable, default 1e-2
        Decoupled decay: a step subtracts ``learning_rate·weight_decay·w`` from each weight,
        independently of gradients and batch size. Intercepts do not decay, unless a group sets it.
        Only used by ``"adamw"`` and ``"sgdw"``. An `alpha` above 0 acts in addition.
    batch_size : int or "auto", default "auto"
        Samples per step; ``"auto"`` is ``min(200, n_samples)``.
    learning_rate : {"constant", "adaptive"}, default "constant"
        ``"constant"`` uses `learning_rate_init` unchanged. ``"adaptive"`` divides it by 5 where
        training would stop, until it is at most 1e-6; with every solver.
    learning_rate_init : float or callable, default 1e-3
        Learning rate: a number, or a schedule or callable of the 1-based step. A step is a batch.
    max_iter : int, default 200
        Maximum number of passes over the samples.
    shuffle : bool, default True
        Shuffle the samples before each pass.
    random_state : int, RandomState or None, default None
        Random numbers for initial weights, shuffling, and the split of `early_stopping`.
    tol : float, default 1e-4
        Smallest change of loss or score that counts as an improvement.
    verbose : bool, default False
        Print the loss of each pass.
    warm_start : bool, default False
        Let `fit` start from the present weights, with a new optimizer. `partial_fit` continues with
        the same optimizer.
    momentum : float or callable, default 0.9
        In [0, 1]. Only used by ``"sgdw"`` and ``"sgd"``, like `nesterovs_momentum`.
    nesterovs_momentum : bool, default True
        Nesterov's form, if the momentum is above 0.
    early_stopping : bool, default False
        Stop by the score of a validation set, and restore the weights with the best score.
    validation_fraction : float, default 0.1
        Share of the samples in the validation set.
    beta_1, beta_2 : float or callable, default 0.9 and 0.999
        Decay of the moments, each in [0, 1). Only used by ``"adamw"`` and ``"adam"``, like
        `epsilon` and `amsgrad`.
    epsilon : float or callable, default 1e-8
        Added to the root after bias correction. scikit-learn adds it before; `epsilon_hat` converts
        its value.
    amsgrad : bool, default False
        Keep the running maximum of the second moment.
    groups : list or tuple of groups, default ()
        As of `thalweg.AdamW`. Names of arrays are ``coefs.0``, ``intercepts.0`` and so on; keys
        have thalweg's names: ``lr``, ``lr_scale``, ``weight_decay``, ``frozen``.
    max_norm : float or None, default None
        Maximum global norm; larger gradients are scaled down to it.
    n_iter_no_change : int, default 10
        Number of passes without an improvement after which training stops.

    Attributes
    ----------
    optimizer_ : thalweg.Optimizer
        The optimizer of the arrays in `coefs_` and `intercepts_`. Its groups and learning rate can
        be read and edited between calls of `partial_fit`; it has state and a state dict.
    coefs_, intercepts_ : list of ndarray
        Weights; always the arrays of `optimizer_`.
    loss_curve_, loss_, best_loss_, validation_scores_, best_validation_score_, n_iter_, t_
        These and all others as in scikit-learn.

    Raises
    ------
    NotFittedError
        By `optimizer_`, before the first fit.
    ValueError
        By `fit` and `partial_fit`, for a gradient that is NaN, infinite or too large; the weights
        are those before that step. Its ``__cause__`` is the `thalweg.NonFiniteError`, with names
        and step. With `early_stopping`, training stops instead, with the best weights and a
        `ConvergenceWarning`.

    Notes
    -----
    ``solver="adam", alpha=1e-4, epsilon=epsilon_hat(1e-8)`` has the losses of scikit-learn's
    defaults, up to rounding; ``solver="sgd", alpha=1e-4`` those of its SGD.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> from thalweg import schedule
    >>> from thalweg.sklearn import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> lr = 1e-2 * schedule.inverse_sqrt(warmup=20)
    >>> mlp = MLPClassifier((32,), learning_rate_init=lr, tol=1e-2, random_state=0)
    >>> model = make_pipeline(MinMaxScaler(), mlp).fit(X[:1200], y[:1200])
    >>> model.score(X[1200:], y[1200:]) > 0.9
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = constraints(
        neural_network.MLPClassifier._parameter_constraints  # noqa: SLF001 - scikit-learn's validation reads it
    )
    loss = "log_loss"

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] | int = (100,),
        activation: str = "relu",
        *,
        solver: str = "adamw",
        alpha: float = 0.0,
        weight_decay: Number = 1e-2,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: Number = 1e-3,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: Number = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-8,
        amsgrad: bool = False,
        groups: Groups = (),
        max_norm: float | None = None,
        n_iter_no_change: int = 10,
    ) -> None:
        self._store(locals())


class MLPRegressor(ThalwegMixin, neural_network.MLPRegressor):
    """scikit-learn's ``MLPRegressor``, trained by thalweg.

    All else that is not described here is as in `sklearn.neural_network.MLPRegressor`.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}, default "squared_error"
        Half the mean squared error, or the Poisson deviance for counts, with an exponential output.
    hidden_layer_sizes, activation, solver, ...
        All others as for `MLPClassifier`.

    Attributes
    ----------
    optimizer_ : thalweg.Optimizer
        This and all others as of `MLPClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from thalweg.sklearn import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> mlp = MLPRegressor(learning_rate_init=0.01, early_stopping=True, random_state=0)
    >>> model = make_pipeline(StandardScaler(), mlp).fit(X[:300], y[:300])
    >>> model.score(X[300:], y[300:]) > 0.4
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = constraints(
        neural_network.MLPRegressor._parameter_constraints  # noqa: SLF001 - as above
    )

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Sequence[int] | int = (100,),
        activation: str = "relu",
        *,
        solver: str = "adamw",
        alpha: float = 0.0,
        weight_decay: Number = 1e-2,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: Number = 1e-3,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: Number = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-8,
        amsgrad: bool = False,
        groups: Groups = (),
        max_norm: float | None = None,
        n_iter_no_change: int = 10,
    ) -> None:
        self._store(locals())

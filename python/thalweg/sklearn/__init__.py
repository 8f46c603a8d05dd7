"""scikit-learn's multi-layer perceptrons, trained by thalweg.

`MLPClassifier` and `MLPRegressor` are scikit-learn's own estimators, with its networks, losses and
checks; only what updates the weights is thalweg's. `epsilon_hat` is scikit-learn's ε for thalweg.
"""

from __future__ import annotations

try:
    import sklearn as _sklearn  # noqa: F401 - to say what is missing
except ModuleNotFoundError as error:
    raise ImportError(
        "thalweg.sklearn needs scikit-learn: pip install 'thalweg[sklearn]'"
    ) from error

from thalweg.sklearn.epsilon import epsilon_hat
from thalweg.sklearn.estimators import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "epsilon_hat"]

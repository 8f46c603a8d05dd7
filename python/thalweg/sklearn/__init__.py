"""scikit-learn's multi-layer perceptrons, trained by thalweg.

`MLPClassifier` and `MLPRegressor` are scikit-learn's estimators, with its networks, losses and
checks; thalweg updates the weights. `epsilon_hat` converts scikit-learn's ``epsilon``.
"""

from __future__ import annotations

try:
    import sklearn as _sklearn  # noqa: F401 - for the message below
except ModuleNotFoundError as error:
    raise ImportError(
        "thalweg.sklearn needs scikit-learn: pip install 'thalweg[sklearn]'"
    ) from error

from thalweg.sklearn.epsilon import epsilon_hat
from thalweg.sklearn.estimators import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "epsilon_hat"]

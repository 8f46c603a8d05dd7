"""Handwritten digits with scikit-learn: a grid search over the kind and strength of decay.

``python examples/sklearn_digits.py`` takes a few seconds. The search compares decoupled decay
(``weight_decay``) with scikit-learn's penalty in the loss (``alpha``) by cross-validation. The best
model is tested on a quarter of the digits that the search has not seen.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

from thalweg import schedule
from thalweg.sklearn import MLPClassifier

GRID = [
    {"mlp__solver": ["adamw"], "mlp__weight_decay": [0.0, 0.1, 0.3, 1.0]},
    {"mlp__solver": ["adam"], "mlp__alpha": [1e-4, 1e-2, 0.1, 1.0]},
]


def main() -> float:
    """Print the scores of the search; return the accuracy on the test digits."""
    pixels, digits = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(
        pixels.astype(np.float32), digits, test_size=0.25, stratify=digits, random_state=0
    )
    network = MLPClassifier(
        hidden_layer_sizes=(64,),
        batch_size=100,
        tol=2e-3,
        learning_rate_init=1e-2 * schedule.inverse_sqrt(warmup=50),
        random_state=0,
    )
    pipeline = Pipeline([("scale", MinMaxScaler()), ("mlp", network)])
    search = GridSearchCV(pipeline, GRID, cv=3).fit(x, y)

    results = search.cv_results_
    for parameters, score in zip(results["params"], results["mean_test_score"], strict=True):
        named = ", ".join(f"{key.removeprefix('mlp__')}={parameters[key]}" for key in parameters)
        print(f"{score:.2%}  {named}")
    accuracy = float(search.score(x_test, y_test))
    print(f"{accuracy:.2%} of {len(y_test)} digits set aside, with {search.best_params_}")
    return accuracy


if __name__ == "__main__":
    main()
